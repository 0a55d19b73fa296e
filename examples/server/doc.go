// Command server is an update server for real use: devices by CoAP, packages by HTTP and HTTPS,
// operators by a JSON API.
//
//	server -data /var/lib/otago -coap 0.0.0.0:5683 -nosec -fw-http 0.0.0.0:8081
//	server pki -dir pki -host fw.example.com -device urn:imei:490154203237518
//	server bundle sign -key signer.key -name sensor -version 1.1.0 -out sensor-1.1.0.bundle sensor.bin
//	server export -of members -format csv
//
// The environment can set every flag: -fw-http by OTAGO_FW_HTTP, for example. The server stops on
// SIGINT and SIGTERM.
package main
