package tlv_test

import (
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/tlv"
)

// device is Object 3 in the example of the LwM2M specification: 16 values, 121 bytes, which the
// benchmarks encode and decode.
type device struct {
	manufacturer, model, serial, firmware []byte
	sources                               [2]int64
	voltage, current                      [2]int64
	battery, memory                       int64
	errors                                [1]int64
	time                                  int64
	offset, binding                       []byte
}

var exampleDevice = device{
	manufacturer: []byte("Open Mobile Alliance"), model: []byte("Lightweight M2M Client"),
	serial: []byte("345000123"), firmware: []byte("1.0"),
	sources: [2]int64{1, 5}, voltage: [2]int64{3800, 5000}, current: [2]int64{125, 900},
	battery: 100, memory: 15, time: 1367491215,
	offset: []byte("+02:00"), binding: []byte("U"),
}

const exampleDeviceHex = "c800144f70656e204d6f62696c6520416c6c69616e6365c801164c69676874776569676874204d324d20436c69656e74" +
	"c80209333435303030313233c303312e30860641000141010588070842000ed842011388870841007d42010384c10964c10a0f" +
	"830b410000c40d5182428fc60e2b30323a3030c11055"

// encode encodes the device as a program would with this package.
func (d *device) encode(dst []byte) ([]byte, error) {
	enc := tlv.NewEncoder(dst)
	enc.Opaque(tlv.Resource, 0, d.manufacturer)
	enc.Opaque(tlv.Resource, 1, d.model)
	enc.Opaque(tlv.Resource, 2, d.serial)
	enc.Opaque(tlv.Resource, 3, d.firmware)
	encodeMultiple(&enc, 6, d.sources[:])
	encodeMultiple(&enc, 7, d.voltage[:])
	encodeMultiple(&enc, 8, d.current[:])
	enc.Int(tlv.Resource, 9, d.battery)
	enc.Int(tlv.Resource, 10, d.memory)
	encodeMultiple(&enc, 11, d.errors[:])
	enc.Int(tlv.Resource, 13, d.time)
	enc.Opaque(tlv.Resource, 14, d.offset)
	enc.Opaque(tlv.Resource, 16, d.binding)
	return enc.Bytes()
}

func encodeMultiple(enc *tlv.Encoder, id uint16, values []int64) {
	enc.Begin(tlv.MultipleResource, id)
	for i, v := range values {
		enc.Int(tlv.ResourceInstance, uint16(i), v)
	}
	enc.End()
}

// decode decodes it as a program would.
func (d *device) decode(data []byte) error {
	dec := tlv.NewDecoder(data)
	for {
		e, err := dec.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch e.ID {
		case 0:
			d.manufacturer = e.Value
		case 1:
			d.model = e.Value
		case 2:
			d.serial = e.Value
		case 3:
			d.firmware = e.Value
		case 6:
			err = decodeMultiple(e, d.sources[:])
		case 7:
			err = decodeMultiple(e, d.voltage[:])
		case 8:
			err = decodeMultiple(e, d.current[:])
		case 9:
			d.battery, err = e.Int()
		case 10:
			d.memory, err = e.Int()
		case 11:
			err = decodeMultiple(e, d.errors[:])
		case 13:
			d.time, err = e.Int()
		case 14:
			d.offset = e.Value
		case 16:
			d.binding = e.Value
		}
		if err != nil {
			return err
		}
	}
}

func decodeMultiple(e tlv.Element, values []int64) error {
	dec := e.Decoder()
	for {
		c, err := dec.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if int(c.ID) >= len(values) {
			continue
		}
		if values[c.ID], err = c.Int(); err != nil {
			return err
		}
	}
}

// decodeRange is decode with the iterators.
func (d *device) decodeRange(data []byte) (sum int64, err error) {
	for e, err := range tlv.All(data) {
		if err != nil {
			return 0, err
		}
		switch e.Kind {
		case tlv.MultipleResource:
			for c, err := range e.Children() {
				if err != nil {
					return 0, err
				}
				v, err := c.Int()
				if err != nil {
					return 0, err
				}
				sum += v
			}
		default:
			sum += int64(len(e.Value))
		}
	}
	return sum, nil
}

// encodeStraight writes the same bytes without any generality: every header is a constant, every
// width is known. It is the bound for the benchmarks.
func (d *device) encodeStraight(b []byte) []byte {
	b = append(b, 0xc8, 0, byte(len(d.manufacturer)))
	b = append(b, d.manufacturer...)
	b = append(b, 0xc8, 1, byte(len(d.model)))
	b = append(b, d.model...)
	b = append(b, 0xc8, 2, byte(len(d.serial)))
	b = append(b, d.serial...)
	b = append(b, 0xc0|byte(len(d.firmware)), 3)
	b = append(b, d.firmware...)
	b = append(b, 0x86, 6, 0x41, 0, byte(d.sources[0]), 0x41, 1, byte(d.sources[1]))
	b = append(b, 0x88, 7, 8, 0x42, 0, byte(d.voltage[0]>>8), byte(d.voltage[0]), 0x42, 1, byte(d.voltage[1]>>8), byte(d.voltage[1]))
	b = append(b, 0x87, 8, 0x41, 0, byte(d.current[0]), 0x42, 1, byte(d.current[1]>>8), byte(d.current[1]))
	b = append(b, 0xc1, 9, byte(d.battery), 0xc1, 10, byte(d.memory))
	b = append(b, 0x83, 11, 0x41, 0, byte(d.errors[0]))
	b = binary.BigEndian.AppendUint32(append(b, 0xc4, 13), uint32(d.time))
	b = append(b, 0xc0|byte(len(d.offset)), 14)
	b = append(b, d.offset...)
	b = append(b, 0xc0|byte(len(d.binding)), 16)
	return append(b, d.binding...)
}

var errStraight = errors.New("not the expected bytes")

// decodeStraight reads exactly those bytes: it only checks each header against the expected one,
// and each length against the rest.
func (d *device) decodeStraight(b []byte) error {
	ok := true
	long := func(id byte) (v []byte) {
		if len(b) < 3 || b[0] != 0xc8 || b[1] != id || len(b) < 3+int(b[2]) {
			ok = false
			return nil
		}
		v, b = b[3:3+b[2]], b[3+b[2]:]
		return v
	}
	short := func(id byte) (v []byte) {
		if len(b) < 2 || b[0]&0xf8 != 0xc0 || b[1] != id || len(b) < 2+int(b[0]&7) {
			ok = false
			return nil
		}
		n := 2 + b[0]&7
		v, b = b[2:n], b[n:]
		return v
	}
	d.manufacturer, d.model, d.serial, d.firmware = long(0), long(1), long(2), short(3)
	if !ok || len(b) < 43 ||
		b[0] != 0x86 || b[1] != 6 || b[2] != 0x41 || b[3] != 0 || b[5] != 0x41 || b[6] != 1 ||
		b[8] != 0x88 || b[9] != 7 || b[10] != 8 || b[11] != 0x42 || b[12] != 0 || b[15] != 0x42 || b[16] != 1 ||
		b[19] != 0x87 || b[20] != 8 || b[21] != 0x41 || b[22] != 0 || b[24] != 0x42 || b[25] != 1 ||
		b[28] != 0xc1 || b[29] != 9 || b[31] != 0xc1 || b[32] != 10 ||
		b[34] != 0x83 || b[35] != 11 || b[36] != 0x41 || b[37] != 0 ||
		b[39] != 0xc4 || b[40] != 13 {
		return errStraight
	}
	d.sources = [2]int64{int64(int8(b[4])), int64(int8(b[7]))}
	d.voltage = [2]int64{int64(int16(binary.BigEndian.Uint16(b[13:]))), int64(int16(binary.BigEndian.Uint16(b[17:])))}
	d.current = [2]int64{int64(int8(b[23])), int64(int16(binary.BigEndian.Uint16(b[26:])))}
	d.battery, d.memory, d.errors[0] = int64(int8(b[30])), int64(int8(b[33])), int64(int8(b[38]))
	d.time = int64(int32(binary.BigEndian.Uint32(b[41:])))
	b = b[45:]
	d.offset, d.binding = short(14), short(16)
	if !ok || len(b) > 0 {
		return errStraight
	}
	return nil
}

func TestDevice(t *testing.T) {
	want := unhex(t, exampleDeviceHex)
	require.Len(t, want, 121)
	got, err := exampleDevice.encode(nil)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, want, exampleDevice.encodeStraight(nil))

	var decoded, straight device
	require.NoError(t, decoded.decode(want))
	require.Equal(t, exampleDevice, decoded)
	require.NoError(t, straight.decodeStraight(want))
	require.Equal(t, exampleDevice, straight)
}

func TestAllocations(t *testing.T) {
	data := unhex(t, exampleDeviceHex)
	buf := make([]byte, 0, 256)
	var d device
	for name, f := range map[string]func(){
		"encode":   func() { buf, _ = exampleDevice.encode(buf[:0]) },
		"decode":   func() { _ = d.decode(data) },
		"range":    func() { _, _ = d.decodeRange(data) },
		"validate": func() { _ = tlv.Validate(data) },
	} {
		require.Zero(t, testing.AllocsPerRun(100, f), name)
	}
}

func BenchmarkEncodeDevice(b *testing.B) {
	buf := make([]byte, 0, 256)
	b.Run("otago", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf, _ = exampleDevice.encode(buf[:0])
		}
	})
	b.Run("straight", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			buf = exampleDevice.encodeStraight(buf[:0])
		}
	})
}

func BenchmarkDecodeDevice(b *testing.B) {
	data := unhex(b, exampleDeviceHex)
	var d device
	b.Run("otago", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := d.decode(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("range", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := d.decodeRange(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("validate", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := tlv.Validate(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("straight", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := d.decodeStraight(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
