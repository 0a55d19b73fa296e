// Package coap is a CoAP endpoint fit to carry firmware: messages, exchanges,
// block-wise transfers and observations, the same over every transport.
//
// One [Endpoint] is client and server at once, as LwM2M needs it. It reads
// any number of sockets, keeps one table of the peers that it is talking to,
// and runs the requests that arrive in a bounded pool:
//
//	ep := coap.New(coap.Config{Handler: handler})
//	go ep.ServePacket(ctx, conn)
//
//	resp, err := ep.Do(ctx, peer, &coap.Request{
//		Code:          coap.PUT,
//		Path:          []string{"5", "0", "0"},
//		ContentFormat: coap.FormatOf(42),
//		Body:          image, // an io.ReaderAt, sent by Block1
//		Size:          size,
//	})
//
// A peer that is silent costs an entry in a table: no goroutine, no timer, no
// buffer.
package coap
