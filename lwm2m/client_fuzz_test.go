package lwm2m

import (
	"context"
	"strings"
	"testing"

	"github.com/otago-iot/otago/internal/coap"
)

// FuzzClient sends a client any request but Observe. The client answers each with a valid code,
// keeps a valid lifetime, and encodes its answers so that a server can decode them.
func FuzzClient(f *testing.F) {
	for _, seed := range []struct {
		code    coap.Code
		path    string
		queries string
		format  int
		accept  int
		payload string
	}{
		{coap.GET, "3/0/3", "", -1, -1, ""},
		{coap.GET, "3", "", -1, 11542, ""},
		{coap.GET, "1/0", "", -1, 40, ""},
		{coap.PUT, "1/0/1", "", 0, -1, "600"},
		{coap.PUT, "1/0/1", "pmin=1&pmax=2", -1, -1, ""},
		{coap.POST, "1/0", "", 11542, -1, "\xc1\x01\x3c"},
		{coap.POST, "3/0/4", "", -1, -1, "0='x'"},
		{coap.FETCH, "", "", 112, 112, "\x81\xa1\x00\x66/3/0/3"},
		{coap.IPATCH, "", "", 112, -1, "\x81\xa2\x00\x66/1/0/1\x02\x18\x3c"},
		{coap.DELETE, "3/0", "", -1, -1, ""},
		{coap.POST, "20001", "", 11542, -1, "\xc1\x01a"},
		{coap.POST, "20001", "", 11542, -1, "\x03\x07\xc1\x01a"},
		{coap.POST, "20001", "", 112, -1, "\x81\xa2\x00\x6a/20001/2/1\x03\x61a"},
		{coap.POST, "20001/0/2", "", 11542, -1, "\x41\x01a"},
		{coap.DELETE, "20001/0", "", -1, -1, ""},
		{coap.DELETE, "20001/0/2/1", "", -1, -1, ""},
	} {
		f.Add(uint8(seed.code), seed.path, seed.queries, seed.format, seed.accept, []byte(seed.payload))
	}
	f.Fuzz(func(t *testing.T, code uint8, path, queries string, format, accept int, payload []byte) {
		values := NewValueObject(ValueObjectConfig{
			ID: 20001, Values: []Entry{{Path: NewPath(20001, 0, 2, 1), Value: String("a")}}, Writable: map[uint16]func(Value) error{1: nil, 2: nil},
			OnCreate: func(context.Context, uint16, []Entry) error { return nil },
			OnDelete: func(context.Context, uint16) error { return nil },
		})
		c, err := NewClient(ClientConfig{
			Endpoint: "a", Server: "coap://192.0.2.1", Objects: []Object{NewDeviceObject(DeviceObjectConfig{FirmwareVersion: "1"}), values},
		})
		if err != nil {
			t.Fatal(err)
		}
		l := &link{client: c, ctx: context.Background(), closed: context.Background(), notifier: newNotifier(c), version: c.version, addr: peerA.Addr}
		var options coap.Options
		for segment := range strings.SplitSeq(path, "/") {
			if segment != "" {
				options = coap.AppendString(options, coap.URIPath, segment)
			}
		}
		if format >= 0 {
			options = coap.AppendUint(options, coap.ContentFormat, uint32(format)&0xffff)
		}
		for q := range strings.SplitSeq(queries, "&") {
			if q != "" {
				options = coap.AppendString(options, coap.URIQuery, q)
			}
		}
		if accept >= 0 {
			options = coap.AppendUint(options, coap.Accept, uint32(accept)&0xffff)
		}
		resp := l.serveCOAP(context.Background(), &coap.IncomingRequest{
			Peer: peerA, Code: coap.Code(code), Options: options, Payload: payload,
		})
		if class := resp.Code >> 5; class != 2 && class != 4 && class != 5 || ResponseCode(resp.Code) == CodeInternal {
			t.Fatalf("%v: %s", resp.Code, resp.Payload)
		}
		if lt := c.control.announced().lifetime; lt < 1 || lt > 1<<32-1 {
			t.Fatalf("lifetime %d", lt)
		}
		if resp.Code != coap.Content {
			return
		}
		f, _ := resp.ContentFormat.Get()
		base, _ := parsePath((&coap.IncomingRequest{Options: options}).Path())
		if ContentFormat(f) == FormatLink {
			if _, err := parseDiscover(resp.Payload, ""); err != nil {
				t.Fatal(err)
			}
			return
		}
		if _, err := DecodePayload(ContentFormat(f), base, resp.Payload, nil); err != nil {
			t.Fatalf("%s of %s: %v", ContentFormat(f), base, err)
		}
	})
}
