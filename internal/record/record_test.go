package record

import (
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

type colour string

type shade string

// money encodes itself.
type money struct{ cents uint32 }

func (m *money) AppendBinary(b []byte) ([]byte, error) {
	if m.cents == 13 {
		return b, errors.New("unlucky")
	}
	return binary.BigEndian.AppendUint32(b, m.cents), nil
}

func (m *money) UnmarshalBinary(data []byte) error {
	if len(data) != 4 {
		return errors.New("not four bytes")
	}
	if m.cents = binary.BigEndian.Uint32(data); m.cents == 13 {
		return errors.New("unlucky")
	}
	return nil
}

type inner struct {
	A int  `record:"1"`
	B bool `record:"200"`
}

type embedded struct {
	Depth uint8 `record:"1"`
}

type all struct {
	Text     string            `record:"1"`
	Digest   string            `record:"2,hex"`
	Flag     bool              `record:"3"`
	Small    int8              `record:"4"`
	Big      int64             `record:"5"`
	Count    uint64            `record:"6"`
	Byte     uint8             `record:"7"`
	At       time.Time         `record:"8"`
	For      time.Duration     `record:"9"`
	Colour   colour            `record:"10"`
	Shade    shade             `record:"11"`
	Inner    inner             `record:"12"`
	Numbers  []int             `record:"13"`
	Digests  []string          `record:"14,hex"`
	Colours  []colour          `record:"15"`
	Inners   []inner           `record:"16"`
	Labels   map[string]string `record:"17"`
	Maybe    *int              `record:"18"`
	Money    money             `record:"19"`
	Share    float64           `record:"21"`
	ID       string            `record:"22,ulid"`
	embedded `record:"70"`
	Skipped  func() `record:"-"`
	hidden   int
}

func init() {
	Enum[colour]("red", "green")
	Common[shade]("dark")
}

var codec = Of[all]()

func full() all {
	return all{
		Text: "text\x00", Digest: "00ff", Flag: true, Small: math.MinInt8, Big: math.MinInt64, Count: math.MaxUint64, Byte: 255,
		At: time.Date(2026, 11, 30, 1, 2, 3, 456789012, time.UTC), For: 90 * time.Second, Colour: "green", Shade: "dark",
		Inner: inner{-1, true}, Numbers: []int{0, -1, 1 << 30}, Digests: []string{"ab", "", "AB", "abc"}, Colours: []colour{"red", ""},
		Inners: []inner{{}, {1, true}}, Labels: map[string]string{"b": "2", "a": "", "": "x"}, Maybe: new(0), Money: money{7}, Share: -1.0 / 3, ID: "7ZZZZZZZZZZZZZZZZZZZZZZZZZ",
		embedded: embedded{3}, hidden: 0,
	}
}

func TestRoundTrip(t *testing.T) {
	far := full()
	far.At, far.For, far.Digest, far.Shade = time.Date(1, 2, 3, 4, 5, 6, 7, time.UTC), math.MaxInt64, "zz", "pale"
	long := full()
	long.Text, long.Inners = strings.Repeat("x", 100000), make([]inner, 1000)
	empty := all{Numbers: []int{}, Money: money{0}}
	empty.ID = "8ZZZZZZZZZZZZZZZZZZZZZZZZZ" // too large for 128 bits
	late := all{Share: math.Inf(-1), ID: "01ARZ3NDEKTSV4RRFFQ69G5FAV", At: time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), For: math.MinInt64}
	for _, want := range []all{{}, full(), far, long, empty, late, {Labels: map[string]string{"a": "b"}}, {Maybe: new(-5)}} {
		data, err := codec.Append([]byte("before"), &want)
		if err != nil {
			t.Fatal(err)
		}
		var got all
		if err := codec.Decode(data[len("before"):], &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got\n%+v\nwant\n%+v", got, want)
		}
	}
}

// TestShort: a record has the bytes that its fields need.
func TestShort(t *testing.T) {
	const least = 6 // Money encodes itself, even if zero
	for _, tt := range []struct {
		bytes int
		v     all
	}{
		{0, all{}}, {2, all{Flag: true}}, {3, all{Byte: 200}}, {2, all{Colour: "green"}}, {5, all{Shade: "red"}},
		{19, all{Digest: strings.Repeat("0a", 16)}}, {3, all{For: 24 * time.Minute}},
		{9, all{At: time.Date(2026, 11, 30, 1, 2, 3, 456789000, time.UTC)}}, {6, all{Inner: inner{A: 1}, embedded: embedded{}}},
	} {
		data, err := codec.Append(nil, &tt.v)
		if err != nil || len(data) > least+tt.bytes {
			t.Errorf("%+v has %d bytes, want %d: %v", tt.v, len(data)-least, tt.bytes, err)
		}
	}
}

// TestParts: parts of a record, one after the other, are the record.
func TestParts(t *testing.T) {
	v := full()
	whole, err := codec.Append(nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	for at := range uint64(80) {
		first, err := codec.AppendRange(nil, &v, 1, at)
		if err != nil {
			t.Fatal(err)
		}
		if rest, ok := From(whole, at+1); !ok || string(first)+string(rest) != string(whole) {
			t.Errorf("split after field %d: %x and %x, want %x", at, first, rest, whole)
		}
	}
	if rest, ok := From(whole[:3], 50); ok || rest != nil {
		t.Errorf("of a damaged record: %x", rest)
	}
}

// TestUnknown: a reader skips fields that it does not know, and words of an enumeration are another
// matter.
func TestUnknown(t *testing.T) {
	type newer struct {
		Text  string `record:"1"`
		Other inner  `record:"20"`
		More  uint64 `record:"71"`
	}
	data, err := Of[newer]().Append(nil, &newer{"text", inner{A: 1}, 7})
	if err != nil {
		t.Fatal(err)
	}
	var got all
	if err := codec.Decode(data, &got); err != nil || got.Text != "text" {
		t.Errorf("%+v, %v", got, err)
	}

	if _, err := codec.Append(nil, &all{Colour: "blue"}); err == nil || !strings.Contains(err.Error(), `all.Colour: record: unknown word "blue"`) {
		t.Error(err)
	}
	if _, err := codec.Append(nil, &all{Money: money{13}}); err == nil {
		t.Error("an error of AppendBinary is lost")
	}
	if _, err := codec.Append(nil, &all{At: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}); err == nil {
		t.Error("a year that cannot be written")
	}
}

// TestRefused: what Append does not make is refused, and never panics.
func TestRefused(t *testing.T) {
	num := func(number, n uint64) []byte { return appendNumber(nil, number, n) }
	text := func(number uint64, s string) []byte { return appendText(nil, number, s) }
	for name, data := range map[string][]byte{
		"cut head":            {0x80},
		"no value":            {2},
		"cut text":            {3, 5, 'a'},
		"endless length":      {3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
		"more than 64 bits":   {12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2},
		"a long zero":         {12, 0x80, 0},
		"fields out of order": append(num(6, 1), num(3, 1)...),
		"a field twice":       append(num(6, 1), num(6, 1)...),
		"number for text":     num(1, 1),
		"number for hex":      num(2, 1),
		"number for struct":   num(12, 1),
		"number for slice":    num(13, 1),
		"number for map":      num(17, 1),
		"number for binary":   num(19, 1),
		"text for bool":       text(3, "1"),
		"text for int":        text(4, "1"),
		"text for uint":       text(6, "1"),
		"text for enum":       text(10, "red"),
		"bool of 2":           num(3, 2),
		"int8 of 128":         num(4, zigzag(128)),
		"uint8 of 256":        num(7, 256),
		"unknown word":        num(10, 3),
		"listed as text":      text(11, "dark"),
		"hex without a mark":  text(2, ""),
		"hex of another mark": text(2, "\x02"),
		"hex not packed":      text(2, "\x00ab"),
		"number for ULID":     num(22, 1),
		"ULID without a mark": text(22, ""),
		"ULID of other mark":  text(22, "\x02"),
		"ULID cut short":      text(22, "\x01234567890123456"),
		"ULID not packed":     text(22, "\x0001ARZ3NDEKTSV4RRFFQ69G5FAV"),
		"far time cut":        text(8, "\x02"),
		"far time of 3 parts": text(8, string(append(append(num(1, 1), num(2, 1)...), num(3, 1)...))),
		"year 10000":          text(8, string(append(num(1, zigzag(1<<40)), num(2, 1)...))),
		"odd nanoseconds":     text(8, string(append(num(1, 1), num(2, 1e9)...))),
		"duration overflows":  num(9, zigzag(math.MaxInt64/int64(time.Second)+1)<<1|1),
		"duration of 2 parts": text(9, string(append(num(1, 1), num(2, 1)...))),
		"numbered element":    text(13, string(num(1, 1))),
		"cut element":         text(13, "\x00"),
		"empty map":           text(17, ""),
		"half a pair":         text(17, string(text(0, "a"))),
		"names out of order":  text(17, string(append(append(text(0, "b"), text(0, "")...), append(text(0, "a"), text(0, "")...)...))),
		"binary":              text(19, "123"),
	} {
		var got all
		if err := codec.Decode(data, &got); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
}

// TestTypes: a type that does not fit is a mistake of the program.
func TestTypes(t *testing.T) {
	type twice struct {
		A, B int `record:"1"`
	}
	type none struct{ A int }
	type zeroth struct {
		A int `record:"0"`
	}
	type float struct {
		A float32 `record:"1"`
	}
	type list struct {
		Next []list `record:"1"`
	}
	type pointer struct {
		To *inner `record:"1"`
	}
	for name, use := range map[string]func(){
		"a number twice":      func() { _, _ = Of[twice]().Append(nil, new(twice)) },
		"no tag":              func() { _, _ = Of[none]().Append(nil, new(none)) },
		"number 0":            func() { _, _ = Of[zeroth]().Append(nil, new(zeroth)) },
		"a float32":           func() { _, _ = Of[float]().Append(nil, new(float)) },
		"a type in itself":    func() { _, _ = Of[list]().Append(nil, new(list)) },
		"pointer to a struct": func() { _, _ = Of[pointer]().Append(nil, new(pointer)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			use()
		}()
	}
}

func TestAllocations(t *testing.T) {
	v := full()
	v.Labels = nil // are sorted
	data, err := codec.Append(nil, &v)
	if err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { _, _ = codec.Append(buffer, &v) }); n > 0 {
		t.Errorf("Append allocates %v times", n)
	}
	var got all
	if n := testing.AllocsPerRun(100, func() { _ = codec.Decode(data, &got) }); n > 24 {
		t.Errorf("Decode allocates %v times", n)
	}
}

// FuzzDecode: what is accepted has one record, which decodes to the same value; and decoding
// allocates a small multiple of what it is given.
func FuzzDecode(f *testing.F) {
	v := full()
	data, err := codec.Append(nil, &v)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	if data, err = codec.Append(nil, &all{Share: math.NaN()}); err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte{})
	f.Add(appendText(nil, 16, strings.Repeat("\x01\x00", 100)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var first, second all
		if codec.Decode(data, &first) != nil {
			return
		}
		again, err := codec.Append(nil, &first)
		if err != nil {
			t.Fatal(err)
		}
		if err := codec.Decode(again, &second); err != nil {
			t.Fatal(err)
		}
		if math.IsNaN(first.Share) && math.IsNaN(second.Share) { // which is never equal
			first.Share, second.Share = 0, 0
		}
		if !reflect.DeepEqual(first, second) {
			t.Fatalf("%+v\n%+v", first, second)
		}
		if len(again) > len(data)+6 { // Money is there even if zero
			t.Fatalf("%d bytes became %d", len(data), len(again))
		}
	})
}
