// Package lwm2mtest helps to test what uses package lwm2m: servers and clients on a network in memory, which works in the
// virtual time of testing/synctest, and an object that is made of values.
//
//	synctest.Test(t, func(t *testing.T) {
//		net := simnet.New(1)
//		server := lwm2mtest.Serve(t, net, "10.0.0.1:5683", lwm2m.ServerConfig{})
//		sensor := lwm2mtest.NewObject(3303, lwm2m.Entry{Path: lwm2m.NewPath(3303, 0, 5700), Value: lwm2m.Float(21)})
//		lwm2mtest.Register(t, net, "10.0.0.2:0", lwm2m.ClientConfig{
//			Endpoint: "a", Server: "coap://10.0.0.1:5683", Objects: []lwm2m.Object{sensor},
//		})
//		entries, err := server.Read(t.Context(), "a", lwm2m.NewPath(3303, 0))
//		...
//	})
package lwm2mtest
