package lwm2m_test

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/otago-iot/otago/lwm2m"
)

func ExampleDecodePayload() {
	payload := []byte(`[{"bn":"/5/0/","n":"3","v":2},{"n":"5","v":0},{"n":"8/0","v":1}]`)
	entries, err := lwm2m.DecodePayload(lwm2m.FormatSenMLJSON, lwm2m.NewPath(5, 0), payload, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range entries {
		fmt.Println(e.Path, e.Value.Type(), e.Value)
	}
	// Output:
	// /5/0/3 Integer 2
	// /5/0/5 Integer 0
	// /5/0/8/0 Integer 1
}

func ExampleDecodePayload_malformed() {
	_, err := lwm2m.DecodePayload(lwm2m.FormatTLV, lwm2m.NewPath(5, 0), []byte{0xc3, 0x03, 0, 0, 1}, nil)
	var fe *lwm2m.FormatError
	if errors.As(err, &fe) {
		fmt.Println(errors.Is(err, lwm2m.ErrMalformed), fe.Format, "at", fe.Offset)
	}
	// Output: true application/vnd.oma.lwm2m+tlv at 2
}

func ExampleAppendPayload() {
	entries := []lwm2m.Entry{
		{Path: lwm2m.NewPath(5, 0, 3), Value: lwm2m.Integer(2)},
		{Path: lwm2m.NewPath(5, 0, 7), Value: lwm2m.String("1.1.0")},
	}
	for _, f := range []lwm2m.ContentFormat{lwm2m.FormatTLV, lwm2m.FormatLwM2MCBOR, lwm2m.FormatSenMLJSON} {
		payload, err := lwm2m.AppendPayload(nil, f, lwm2m.NewPath(5, 0), entries, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s %q\n", f, payload)
	}
	// Output:
	// application/vnd.oma.lwm2m+tlv "\xc1\x03\x02\xc5\a1.1.0"
	// application/vnd.oma.lwm2m+cbor "\xa1\x82\x05\x00\xa2\x03\x02\ae1.1.0"
	// application/senml+json "[{\"bn\":\"/5/0/\",\"n\":\"3\",\"v\":2},{\"n\":\"7\",\"vs\":\"1.1.0\"}]"
}

func ExamplePath() {
	p, err := lwm2m.ParsePath("/5/0/8/1")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(p.Object(), p.Resource(), p.IsResourceInstance(), p.Prefix(3))
	fmt.Println(lwm2m.NewPath(5, 0).Contains(p))
	// Output:
	// 5 8 true /5/0/8
	// true
}

func ExampleValue_As() {
	fromOperator := lwm2m.String("1700000000")
	v, ok := fromOperator.As(lwm2m.TypeTime)
	at, _ := v.Time()
	fmt.Println(ok, at.UTC().Format(time.RFC3339))
	_, ok = lwm2m.Float(1.5).As(lwm2m.TypeInteger)
	fmt.Println(ok)
	// Output:
	// true 2023-11-14T22:13:20Z
	// false
}

func ExampleRegistration_Objects() {
	r := lwm2m.Registration{Links: `</>;rt="oma.lwm2m";ct="110 112",</3/0>,</5>;ver=1.1,</5/0>`}
	list := r.Objects()
	fmt.Println(list.Formats)
	for _, o := range list.Objects {
		fmt.Println(o.ID, list.Version(o.ID), o.Instances)
	}
	// Output:
	// [application/senml+json application/senml+cbor]
	// 3 1.0 [0]
	// 5 1.1 [0]
}

func ExampleParseArguments() {
	args, err := lwm2m.ParseArguments("0='</33629/1>',1")
	for _, a := range args {
		fmt.Printf("%d %q\n", a.Digit, a.Value)
	}
	fmt.Println(err)
	// Output:
	// 0 "</33629/1>"
	// 1 ""
	// <nil>
}

func ExampleReadModelXML() {
	objects, err := lwm2m.ReadModelXML(strings.NewReader(`<LWM2M>
		<Object>
			<Name>Pump</Name> <ObjectID>26300</ObjectID>
			<MultipleInstances>Multiple</MultipleInstances> <Mandatory>Optional</Mandatory>
			<Resources>
				<Item ID="0">
					<Name>Flow</Name> <Operations>R</Operations> <Type>Float</Type>
					<MultipleInstances>Single</MultipleInstances> <Mandatory>Mandatory</Mandatory>
				</Item>
			</Resources>
		</Object>
	</LWM2M>`))
	if err != nil {
		fmt.Println(err)
		return
	}
	var models lwm2m.Models // the built-in models and the added ones
	if err := models.Add(objects...); err != nil {
		fmt.Println(err)
		return
	}
	flow, _ := models.Resource(lwm2m.NewPath(26300, 0, 0))
	state, _ := models.Resource(lwm2m.NewPath(5, 0, 3))
	fmt.Println(flow.Name, flow.Type, state.Name, state.Type)
	// Output: Flow Float State Integer
}
