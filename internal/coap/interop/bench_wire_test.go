package interop_test

import (
	"encoding/binary"
	"errors"
)

// The loads and sinks implement just enough of CoAP to request a small text or a block, and to
// acknowledge a block, at very low cost.

// getMessage appends a confirmable GET of a path of one segment. If num is not negative, it
// requests that block of 1024 bytes.
func getMessage(b []byte, mid uint16, path string, num int) []byte {
	b = append(b, 0x44, 1, byte(mid>>8), byte(mid), byte(mid>>8), byte(mid), 0, 1, 0xb0|byte(len(path)))
	b = append(b, path...)
	if num >= 0 {
		v := uint32(num)<<4 | 6
		b = append(b, 0xc3, byte(v>>16), byte(v>>8), byte(v)) // 23 - 11
	}
	return b
}

var (
	errWire   = errors.New("not what was expected")
	errNotPut = errors.New("not a confirmable PUT")
)

// payloadOf returns the payload of a piggybacked 2.05 to message mid.
func payloadOf(b []byte, mid uint16) ([]byte, error) {
	if len(b) < 8 || b[0] != 0x64 || b[1] != 0x45 || binary.BigEndian.Uint16(b[2:]) != mid {
		return nil, errWire
	}
	_, payload, err := findOption(b[8:], 0)
	return payload, err
}

// findOption returns the value of an option as a number, and the payload.
func findOption(b []byte, want int) (value uint32, payload []byte, err error) {
	for id := 0; len(b) > 0; {
		if b[0] == 0xff {
			return value, b[1:], nil
		}
		delta, length := int(b[0]>>4), int(b[0]&15)
		b = b[1:]
		for _, n := range []*int{&delta, &length} {
			switch {
			case *n == 13 && len(b) > 0:
				*n = 13 + int(b[0])
				b = b[1:]
			case *n == 14 && len(b) > 1:
				*n = 269 + int(binary.BigEndian.Uint16(b))
				b = b[2:]
			}
		}
		if length > len(b) {
			return 0, nil, errWire
		}
		if id += delta; id == want {
			for _, c := range b[:length] {
				value = value<<8 | uint32(c)
			}
		}
		b = b[length:]
	}
	return value, nil, nil
}

// acknowledge makes the answer to a confirmable PUT of a block, and returns the block's number and
// payload.
func acknowledge(dst, b []byte) (answer []byte, num int, more bool, payload []byte, err error) {
	n := 0
	if len(b) >= 4 {
		n = int(b[0] & 15)
	}
	if len(b) < 4+n || b[0]>>4 != 4 || b[1] != 3 {
		return dst, 0, false, nil, errNotPut
	}
	const block1 = 27
	v, payload, err := findOption(b[4+n:], block1)
	code := byte(0x44) // 2.04
	if v&8 != 0 {
		code = 0x5f // 2.31
	}
	dst = append(dst, 0x60|byte(n), code, b[2], b[3])
	dst = append(dst, b[4:4+n]...)
	dst = append(dst, 0xd3, block1-13, byte(v>>16), byte(v>>8), byte(v))
	return dst, int(v >> 4), v&8 != 0, payload, err
}
