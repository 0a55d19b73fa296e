package tlv_test

import (
	"errors"
	"fmt"

	"github.com/otago-iot/otago/tlv"
)

// The state of a firmware update, as a device would answer a Read of /5/0.
func ExampleNewEncoder() {
	enc := tlv.NewEncoder(make([]byte, 0, 64))
	enc.Text(tlv.Resource, 1, "coap://192.0.2.1/fw")
	enc.Int(tlv.Resource, 3, 2)
	enc.Int(tlv.Resource, 5, 0)
	enc.Begin(tlv.MultipleResource, 8)
	for i, protocol := range []int64{0, 1, 4} {
		enc.Int(tlv.ResourceInstance, uint16(i), protocol)
	}
	enc.End()
	body, err := enc.Bytes()
	if err != nil {
		fmt.Println(err)
	}
	fmt.Printf("%x\n", body)
	// Output: c80113636f61703a2f2f3139322e302e322e312f6677c10302c10500880809410000410101410204
}

func ExampleAll() {
	body := []byte("\xc1\x03\x02\xc1\x05\x00\x86\x08\x41\x00\x00\x41\x01\x04")
	for e, err := range tlv.All(body) {
		if err != nil {
			fmt.Println(err)
			return
		}
		if e.Kind == tlv.Resource {
			v, err := e.Int()
			fmt.Println(e.Kind, e.ID, v, err)
			continue
		}
		for c, err := range e.Children() {
			v, _ := c.Int()
			fmt.Println(e.Kind, e.ID, c.ID, v, err)
		}
	}
	// Output:
	// resource 3 2 <nil>
	// resource 5 0 <nil>
	// multiple resource 8 0 0 <nil>
	// multiple resource 8 1 4 <nil>
}

func ExampleValidate() {
	err := tlv.Validate([]byte{0xc1, 0x03, 0x02, 0xc1, 0x03, 0x00})
	fmt.Println(err)

	if syntax, ok := errors.AsType[*tlv.SyntaxError](err); ok {
		fmt.Println(syntax.Offset, errors.Is(err, tlv.ErrDuplicateID))
	}
	// Output:
	// tlv: duplicate identifier at offset 3
	// 3 true
}
