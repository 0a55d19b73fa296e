package lwm2m

import (
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// MaxModelXML is the largest size in bytes of a file that [ReadModelXML] reads. The largest of the
// registry has about 40 kB.
const MaxModelXML = 1 << 20

// xmlRegistry is the part of the registry's schema, LWM2M.xsd, that models need.
type xmlRegistry struct {
	XMLName xml.Name    `xml:"LWM2M"`
	Objects []xmlObject `xml:"Object"`
}

type xmlObject struct {
	Name      string        `xml:"Name"`
	ID        string        `xml:"ObjectID"`
	Version   string        `xml:"ObjectVersion"`
	Multiple  string        `xml:"MultipleInstances"`
	Mandatory string        `xml:"Mandatory"`
	Resources []xmlResource `xml:"Resources>Item"`
}

type xmlResource struct {
	ID         string `xml:"ID,attr"`
	Name       string `xml:"Name"`
	Operations string `xml:"Operations"`
	Multiple   string `xml:"MultipleInstances"`
	Mandatory  string `xml:"Mandatory"`
	Type       string `xml:"Type"`
	Unit       string `xml:"Units"`
}

// ReadModelXML reads object models in the XML of the OMA registry of objects (schema LWM2M.xsd),
// for [Models.Add]. A file holds one or more objects; an object without version is 1.0.
// ReadModelXML refuses identifiers, types and so on that the schema does not allow, and skips
// descriptions and unknown elements. It reads at most [MaxModelXML] bytes.
func ReadModelXML(r io.Reader) ([]*ObjectModel, error) {
	limited := &io.LimitedReader{R: r, N: MaxModelXML + 1}
	var doc xmlRegistry
	dec := xml.NewDecoder(limited)
	err := dec.Decode(&doc)
	if err == nil {
		err = onlyMiscFollows(dec)
	}
	switch {
	case limited.N <= 0:
		return nil, fmt.Errorf("lwm2m: object model has more than %d bytes", MaxModelXML)
	case err != nil:
		return nil, fmt.Errorf("lwm2m: object model: %w", err)
	case len(doc.Objects) == 0:
		return nil, errors.New("lwm2m: object model without object")
	}
	models := make([]*ObjectModel, 0, len(doc.Objects))
	for _, o := range doc.Objects {
		m, err := o.model()
		if err != nil {
			return nil, fmt.Errorf("lwm2m: model of object %q: %w", strings.TrimSpace(o.ID), err)
		}
		models = append(models, m)
	}
	return models, nil
}

// onlyMiscFollows reports an error if anything but comments and space comes after the document's
// element.
func onlyMiscFollows(dec *xml.Decoder) error {
	for {
		t, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if text, ok := t.(xml.CharData); ok && len(strings.TrimSpace(string(text))) > 0 {
			return errors.New("text after the end")
		}
		if _, ok := t.(xml.StartElement); ok {
			return errors.New("element after the end")
		}
	}
}

func (o *xmlObject) model() (*ObjectModel, error) {
	var f xmlFields
	m := &ObjectModel{
		ID:        f.id(o.ID),
		Version:   Version{Major: 1},
		Name:      f.name(o.Name),
		Multiple:  f.choice(o.Multiple, "Single", "Multiple") == 1,
		Mandatory: f.choice(o.Mandatory, "Optional", "Mandatory") == 1,
	}
	if v := strings.TrimSpace(o.Version); v != "" {
		var err error
		m.Version, err = ParseVersion(v)
		f.fail(err)
	}
	for _, r := range o.Resources {
		m.Resources = append(m.Resources, ResourceModel{
			ID:         f.id(r.ID),
			Name:       f.name(r.Name),
			Operations: f.operations(r.Operations),
			Type:       f.typ(r.Type),
			Multiple:   f.choice(r.Multiple, "Single", "Multiple") == 1,
			Mandatory:  f.choice(r.Mandatory, "Optional", "Mandatory") == 1,
			Unit:       unit(r.Unit),
		})
		if f.err != nil {
			return nil, fmt.Errorf("resource %q: %w", r.ID, f.err)
		}
	}
	if f.err != nil {
		return nil, f.err
	}
	slices.SortFunc(m.Resources, func(a, b ResourceModel) int { return cmp.Compare(a.ID, b.ID) })
	return m, m.check()
}

// unit returns a unit without superfluous blanks. Files write percent as % or as /100.
func unit(s string) string {
	if s = strings.Join(strings.Fields(s), " "); s == "/100" {
		return "%"
	}
	return s
}

// xmlFields converts texts and keeps the first error.
type xmlFields struct{ err error }

func (f *xmlFields) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

func (f *xmlFields) id(s string) uint16 {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 16)
	if err != nil || n == uint64(NoID) {
		f.fail(fmt.Errorf("bad identifier %q", s))
	}
	return uint16(n)
}

func (f *xmlFields) name(s string) string {
	name := strings.Join(strings.Fields(s), " ")
	if name == "" {
		f.fail(errors.New("no name"))
	}
	return name
}

func (f *xmlFields) choice(s string, words ...string) int {
	i := slices.Index(words, strings.TrimSpace(s))
	if i < 0 {
		f.fail(fmt.Errorf("%q is none of %s", s, strings.Join(words, ", ")))
	}
	return i
}

func (f *xmlFields) operations(s string) Operations {
	words := []string{"", "R", "W", "RW", "E"}
	return Operations(max(0, f.choice(s, words...)))
}

func (f *xmlFields) typ(s string) Type {
	s = strings.TrimSpace(s)
	if s == "" {
		return TypeNone
	}
	for t := TypeString; t < TypeNull; t++ {
		if typeNames[t] == s {
			return t
		}
	}
	f.fail(fmt.Errorf("%q is no data type", s))
	return TypeNone
}
