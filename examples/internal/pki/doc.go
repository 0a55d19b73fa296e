// Package pki makes the private public-key infrastructure of a self-signed deployment: a
// certificate authority of its own, certificates for the server, and certificates for devices,
// whose subject's common name is the endpoint.
//
//	ca, fresh, err := pki.OpenCA("pki")                         // makes ca.crt and ca.key, or reads them
//	err = ca.IssueServer("server", []string{"localhost", "127.0.0.1"})
//	err = ca.IssueDevice("urn:imei:490154203237518")
//
// Keys are ECDSA on P-256, which is what LwM2M's mandatory cipher suites and small devices speak;
// files are PEM, keys are readable by their owner alone, and nothing that exists is overwritten.
package pki
