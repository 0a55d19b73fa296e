package tlv_test

import (
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/tlv"
)

// FuzzDecode: for any input, decoding does not panic, does not allocate much and agrees with
// itself; accepted input survives a round trip.
func FuzzDecode(f *testing.F) {
	for _, v := range loadVectors(f) {
		if v.HexFill.Count == 0 {
			f.Add(v.payload(f))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := tlv.Validate(data)
		if err != nil {
			syntax, ok := errors.AsType[*tlv.SyntaxError](err)
			require.True(t, ok, "%T", err)
			require.True(t, syntax.Offset >= 0 && syntax.Offset < len(data), "offset %d of %d", syntax.Offset, len(data))
		}
		tree, treeErr := decodeTree(tlv.NewDecoder(data))
		if treeErr != nil {
			if !errors.Is(err, tlv.ErrDuplicateID) {
				require.Equal(t, treeErr, err, "the first error is the same")
			}
			return
		}
		if err != nil {
			require.ErrorIs(t, err, tlv.ErrDuplicateID, "all that Validate adds")
		}
		require.LessOrEqual(t, depth(tree), 3)
		again := encodeTree(t, tree)
		require.LessOrEqual(t, len(again), len(data), "the encoder's form is the shortest")
		back, err := decodeTree(tlv.NewDecoder(again))
		require.NoError(t, err)
		require.Equal(t, tree, back)
		require.Equal(t, tree, plainDecode(data), "an independent decoder")
		readAll(tlv.NewDecoder(data))
	})
}

func depth(nodes []node) int {
	deepest := 0
	for _, n := range nodes {
		deepest = max(deepest, 1+depth(n.Children))
	}
	return deepest
}

// readAll reads each value as each type.
func readAll(d tlv.Decoder) {
	for e, err := range d.All() {
		if err != nil {
			return
		}
		for _, typ := range []string{"int", "uint", "float", "bool", "objlnk", "string"} {
			_ = readAs(e, typ)
		}
		readAll(e.Decoder())
	}
}

// plainDecode follows the specification's table word for word, for valid input.
func plainDecode(b []byte) []node {
	names := []string{"object_instance", "resource_instance", "multiple_resource", "resource"}
	nodes := []node{}
	for len(b) > 0 {
		t := b[0]
		n := node{Kind: names[t>>6], ID: uint16(b[1])}
		b = b[2:]
		if t&0x20 != 0 {
			n.ID = n.ID<<8 | uint16(b[0])
			b = b[1:]
		}
		length := int(t & 7)
		if width := t >> 3 & 3; width > 0 {
			length = 0
			for range width {
				length = length<<8 | int(b[0])
				b = b[1:]
			}
		}
		if t>>6 == 0 || t>>6 == 2 {
			n.Children = plainDecode(b[:length])
		} else {
			const hex = "0123456789abcdef"
			for _, c := range b[:length] {
				n.ValueHex += string([]byte{hex[c>>4], hex[c&15]})
			}
		}
		nodes = append(nodes, n)
		b = b[length:]
	}
	return nodes
}

// FuzzEncode: a script of calls either fails or produces a body that is valid, except for
// duplicates.
func FuzzEncode(f *testing.F) {
	f.Add([]byte{0, 0, 1, 2, 0, 6, 4, 0, 1, 1, 1, 1})
	f.Add([]byte{2, 255, 255, 4, 0, 0, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		var enc tlv.Encoder
		for len(script) >= 3 {
			op, id := script[0], uint16(script[1])<<8|uint16(script[2])
			script = script[3:]
			kind := tlv.Kind(op >> 3 & 7)
			switch op & 7 {
			case 0:
				enc.Begin(kind, id)
			case 1:
				enc.End()
			case 2:
				enc.Int(kind, id, int64(id)<<(op>>5*8))
			case 3:
				enc.Uint(kind, id, uint64(id)<<(op>>5*8))
			case 4:
				enc.Opaque(kind, id, make([]byte, id%300))
			case 5:
				enc.Float(kind, id, float64(id)/10)
			case 6:
				enc.Bool(kind, id, id%2 == 0)
			case 7:
				enc.ObjectLink(kind, id, id, id)
			}
		}
		b, err := enc.Bytes()
		if err != nil {
			return
		}
		if err := tlv.Validate(b); err != nil {
			require.ErrorIs(t, err, tlv.ErrDuplicateID)
		}
		tree, err := decodeTree(tlv.NewDecoder(b))
		require.NoError(t, err)
		require.Equal(t, string(b), string(encodeTree(t, tree)))
	})
}

// TestAllocationBound: no input makes Validate allocate more than a table of identifiers for each
// of the three levels, or take more than linear time: 64 KiB of the worst kinds pass well within a
// second.
func TestAllocationBound(t *testing.T) {
	for name, data := range hostile() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := tlv.Validate(data)
		runtime.ReadMemStats(&after)
		if name == "zeros" {
			require.ErrorIs(t, err, tlv.ErrDuplicateID)
		} else {
			require.NoError(t, err, name)
		}
		got := after.TotalAlloc - before.TotalAlloc
		require.LessOrEqual(t, got, uint64(len(data))+32<<10, "%s: %v", name, err)
	}
}

// hostile makes inputs that are costly for a careless decoder.
func hostile() map[string][]byte {
	descending := tlv.NewEncoder(nil)
	for id := 20000; id >= 0; id-- {
		descending.Opaque(tlv.Resource, uint16(id), nil)
	}
	tables := tlv.NewEncoder(nil) // each child level needs a table of its own
	for parent := range 400 {
		tables.Begin(tlv.MultipleResource, uint16(parent))
		for id := 40; id > 0; id-- {
			tables.Opaque(tlv.ResourceInstance, uint16(id), nil)
		}
		tables.End()
	}
	a, _ := descending.Bytes()
	b, _ := tables.Bytes()
	c := make([]byte, 64<<10) // empty object instances 0, repeated
	return map[string][]byte{"descending": a, "tables": b, "zeros": c}
}

func TestDecoderIsLinear(t *testing.T) {
	for name, data := range hostile() {
		d, n := tlv.NewDecoder(data), 0
		for {
			if _, err := d.Next(); err == io.EOF {
				break
			}
			n++
		}
		require.Positive(t, n, name)
	}
}
