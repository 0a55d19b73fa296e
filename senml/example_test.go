package senml_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/otago-iot/otago/senml"
)

func Example() {
	body := []byte(`[
		{"bn":"urn:dev:ow:10e2073a01080063:","bt":1.320067464e+09,"n":"temp","u":"Cel","v":23.1},
		{"n":"temp","t":60,"u":"Cel","v":23.5},
		{"n":"label","vs":"Machine Room"}
	]`)
	var codec senml.Codec
	records, err := codec.DecodeJSON(nil, body)
	if err != nil {
		fmt.Println(err)
		return
	}
	records, err = codec.Resolve(records) // applies the base fields
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range records {
		fmt.Printf("%s %s %v%s\n", r.Name, r.Timestamp(time.Now()).Format(time.TimeOnly), r.Value, r.Unit)
	}
	// Output:
	// urn:dev:ow:10e2073a01080063:temp 13:24:24 23.1Cel
	// urn:dev:ow:10e2073a01080063:temp 13:25:24 23.5Cel
	// urn:dev:ow:10e2073a01080063:label 13:24:24 Machine Room
}

func ExampleCodec_AppendJSON() {
	body, err := senml.Codec{}.AppendJSON(nil, []senml.Record{
		{
			BaseName: "urn:dev:ow:10e2073a01080063:",
			BaseTime: senml.UnixTime(time.Date(2010, 6, 8, 18, 1, 16, 1e6, time.UTC)),
			Name:     "voltage", Unit: "V", Value: senml.Num(senml.Float(120.1)),
		},
		{Name: "label", Value: senml.String("Machine Room")},
		{Name: "open", Value: senml.Bool(false)},
		{Name: "nfc-reader", Value: senml.Data([]byte("hi \n"))},
	})
	fmt.Println(string(body), err)
	// Output: [{"bn":"urn:dev:ow:10e2073a01080063:","bt":1276020076.001,"n":"voltage","u":"V","v":120.1},{"n":"label","vs":"Machine Room"},{"n":"open","vb":false},{"n":"nfc-reader","vd":"aGkgCg"}] <nil>
}

// The state and result of a firmware update, as LwM2M carries them.
func ExampleCodec_AppendCBOR() {
	c := senml.Codec{LwM2M: true}
	body, err := c.AppendCBOR(nil, []senml.Record{
		{BaseName: "/5/0/", Name: "3", Value: senml.Num(senml.Int(1))},
		{Name: "5", Value: senml.Num(senml.Int(0))},
	})
	fmt.Println(hex.EncodeToString(body), err)
	// Output: 82a321652f352f302f0061330201a20061350200 <nil>
}

// A Write-Composite of LwM2M 1.2 that sets one resource and removes an instance of another.
func ExampleCodec_DecodeJSON() {
	c := senml.Codec{LwM2M: true, Pack: senml.Patch}
	records, err := c.DecodeJSON(nil, []byte(`[{"bn":"/33605/0/","n":"2","v":42},{"n":"3/2","v":null}]`))
	if err == nil {
		records, err = c.Resolve(records)
	}
	for _, r := range records {
		fmt.Println(r.Name, r.Value)
	}
	fmt.Println(err)
	// Output:
	// /33605/0/2 42
	// /33605/0/3/2 null
	// <nil>
}

// The paths to observe, in LwM2M's Observe-Composite.
func ExampleCodec_Resolve() {
	c := senml.Codec{LwM2M: true, Pack: senml.Fetch}
	records, _ := c.DecodeJSON(nil, []byte(`[{"bn":"/5/0/","n":"3"},{"n":"5"},{"bn":"/3/0/3"}]`))
	records, err := c.Resolve(records)
	for _, r := range records {
		fmt.Println(r.Name)
	}
	fmt.Println(err)
	// Output:
	// /5/0/3
	// /5/0/5
	// /3/0/3
	// <nil>
}

func ExampleSyntaxError() {
	body, _ := hex.DecodeString("82a20061610201a1006162")
	_, err := senml.Codec{}.DecodeCBOR(nil, body)
	fmt.Println(err)

	if syntax, ok := errors.AsType[*senml.SyntaxError](err); ok {
		fmt.Println(syntax.Record, syntax.Offset, errors.Is(err, senml.ErrValue))
	}
	// Output:
	// senml: record must have exactly one value at offset 7, in record 1
	// 1 7 true
}

func ExampleNumber() {
	fmt.Println(senml.Uint(1<<64 - 1))
	fmt.Println(senml.Decimal(3, -1), senml.Decimal(3, -1).Float64())
	fmt.Println(senml.Float(1.638435e9).Int64())
	fmt.Println(senml.Int(0).IsSet(), senml.Number{}.IsSet())
	// Output:
	// 18446744073709551615
	// 0.3 0.3
	// 1638435000 true
	// true false
}
