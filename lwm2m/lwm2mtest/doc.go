// Package lwm2mtest helps to test programs that use package lwm2m. It runs servers and clients on a
// network in memory, which works in the virtual time of testing/synctest.
//
//	synctest.Test(t, func(t *testing.T) {
//		network := simnet.New(1)
//		server := lwm2mtest.Serve(t, network, "10.0.0.1:5683", lwm2m.ServerConfig{})
//		value := lwm2m.NewPath(3303, 0, 5700)
//		sensor := lwm2m.NewValueObject(lwm2m.ValueObjectConfig{
//			ID: 3303, Values: []lwm2m.Entry{{Path: value, Value: lwm2m.Float(21)}},
//		})
//		lwm2mtest.Register(t, network, "10.0.0.2:0", lwm2m.ClientConfig{
//			Endpoint: "a", Server: "coap://10.0.0.1:5683", Objects: []lwm2m.Object{sensor},
//		})
//		entries, err := server.Read(t.Context(), "a", value)
//		...
//	})
package lwm2mtest
