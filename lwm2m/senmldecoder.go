package lwm2m

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"

	"github.com/otago-iot/otago/internal/cbor"
	"github.com/otago-iot/otago/senml"
)

// senmlRecords keeps slices of records, which are large, for the next payload.
var senmlRecords = sync.Pool{New: func() any { return new([]senml.Record) }}

// maxPooledRecords is how large a slice may be to be kept for later.
const maxPooledRecords = 128

// returnRecords returns the memory of records to the pool. The caller has copied what it keeps,
// except strings, which do not change.
func returnRecords(lent *[]senml.Record, records []senml.Record) {
	records = records[:cap(records)]
	if len(records) > maxPooledRecords {
		return
	}
	clear(records)
	*lent = records[:0]
	senmlRecords.Put(lent)
}

// senmlDecoder decodes a pack. For errors it finds the offset of a record in the payload, which
// resolved records no longer have.
type senmlDecoder struct {
	senmlFormat
	payload []byte
}

// maxRecords is how many records a pack of size bytes may have: records are large in memory, and
// one of LwM2M has a name, or a time and a value, which takes four bytes at least. A shorter one
// could only repeat the record before it.
func maxRecords(size int) int { return min(size/4+1, 10000) }

func (d *senmlDecoder) read(dst []senml.Record) ([]senml.Record, error) {
	if d.cbor {
		return d.codec.DecodeCBOR(dst, d.payload)
	}
	return d.codec.DecodeJSON(dst, d.payload)
}

// path returns the path that a resolved record names, below the root.
func (d *senmlDecoder) path(r *senml.Record) (Path, bool) {
	return scanPath(strings.TrimPrefix(r.Name, d.codec.Root), true)
}

// decode returns the resolved records of the payload, in the memory of dst if they fit.
func (d *senmlDecoder) decode(dst []senml.Record) ([]senml.Record, error) {
	pack, err := d.read(dst)
	if err == nil {
		pack, err = d.codec.Resolve(pack)
	}
	if se, ok := errors.AsType[*senml.SyntaxError](err); ok {
		offset := se.Offset
		if offset < 0 {
			offset = d.offset(se.Record)
		}
		return nil, &FormatError{Format: d.format, Offset: offset, Reason: strings.TrimPrefix(se.Err.Error(), "senml: "), Err: err}
	}
	return pack, err
}

// fail returns an error about the record with the given index among the resolved ones. Those that
// only set base fields are not among them.
func (d *senmlDecoder) fail(resolved int, reason string) error {
	pack, _ := d.read(nil) // no error: it worked before
	record := 0
	for i, r := range pack {
		if r.Name == "" && r.Value.Kind() == senml.None && !r.Sum.IsSet() && d.codec.Pack != senml.Fetch {
			continue
		}
		if resolved == 0 {
			record = i
			break
		}
		resolved--
	}
	return &FormatError{Format: d.format, Offset: d.offset(record), Reason: reason}
}

// offset returns where the record with the given index begins, in a payload that is well-formed.
func (d *senmlDecoder) offset(record int) int {
	if d.cbor {
		const depth = 64 // more than senml reads
		r := cbor.Reader{S: string(d.payload)}
		if _, err := r.Head(); err != nil {
			return 0
		}
		for range record {
			if r.Skip(depth) != nil {
				break
			}
		}
		return r.Pos
	}
	dec := json.NewDecoder(bytes.NewReader(d.payload))
	for depth := 0; ; {
		t, err := dec.Token()
		if err != nil {
			return int(dec.InputOffset())
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			if depth == 1 {
				if record == 0 {
					return int(dec.InputOffset()) - 1
				}
				record--
			}
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}
