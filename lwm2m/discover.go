package lwm2m

import (
	"fmt"
	"strconv"
	"strings"
)

// Discovered is one path in the answer to a Discover or a Bootstrap-Discover (Core specification).
type Discovered struct {
	Path Path
	// Version is the object's version (ver), or at the root that of LwM2M (lwm2m); zero if not
	// given.
	Version Version
	// Dimension is how many instances a multiple resource has (dim), -1 if not given.
	Dimension int
	// ShortServerID (ssid) and ServerURI (uri) belong to instances of Security and Server in
	// bootstrap; 0 and "" if not given.
	ShortServerID uint16
	ServerURI     string
	// Attributes are the notification attributes attached to the path.
	Attributes Attributes
}

// parseDiscover reads the answer to a Discover. root is the client's [ObjectList.Root]. It ignores
// attributes that LwM2M does not define, and links that are not LwM2M paths below the root. Errors
// are [*FormatError].
func parseDiscover(payload []byte, root string) ([]Discovered, error) {
	links, err := parseLinks(payload)
	if err != nil {
		return nil, err
	}
	found := make([]Discovered, 0, len(links))
	for i, l := range links {
		s, ok := strings.CutPrefix(l.Target, root)
		if !ok || s != "" && s[0] != '/' {
			continue
		}
		path, ok := parsePath(s)
		if !ok {
			continue
		}
		d := Discovered{Path: path, Dimension: -1}
		for _, a := range l.Attributes {
			if err := d.read(a); err != nil {
				return nil, &FormatError{
					Format: FormatLink, Offset: linkOffset(payload, i),
					Reason: fmt.Sprintf("attribute %s of %s", a.Name, path), Err: err,
				}
			}
		}
		found = append(found, d)
	}
	return found, nil
}

func (d *Discovered) read(a linkAttribute) (err error) {
	switch a.Name {
	case "ver", "lwm2m":
		d.Version, err = ParseVersion(a.Value)
	case "dim":
		var n uint64
		n, err = strconv.ParseUint(a.Value, 10, 16)
		d.Dimension = int(n)
	case "ssid":
		var n uint64
		n, err = strconv.ParseUint(a.Value, 10, 16)
		d.ShortServerID = uint16(n)
	case "uri":
		d.ServerURI = a.Value
	default:
		if attr, ok := attributeByName(a.Name); ok && a.HasValue {
			return d.Attributes.parse(attr, a.Value)
		}
	}
	return err
}

// appendDiscover appends the answer to a Discover to dst. root is the prefix of the paths, which
// may be empty.
func appendDiscover(dst []byte, root string, found []Discovered) []byte {
	for i, d := range found {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '<')
		dst = append(dst, root...)
		if !d.Path.IsRoot() || root == "" {
			dst = d.Path.appendTo(dst)
		}
		dst = append(dst, '>')
		dst = d.appendAttributes(dst)
	}
	return dst
}

func (d *Discovered) appendAttributes(dst []byte) []byte {
	if !d.Version.isZero() {
		name := "ver"
		if d.Path.IsRoot() {
			name = "lwm2m"
		}
		dst = appendLinkAttribute(dst, linkAttribute{Name: name, Value: d.Version.String(), HasValue: true})
	}
	if d.Dimension >= 0 && d.Path.IsResource() {
		dst = append(dst, ";dim="...)
		dst = strconv.AppendInt(dst, int64(d.Dimension), 10)
	}
	if d.ShortServerID != 0 {
		dst = append(dst, ";ssid="...)
		dst = strconv.AppendUint(dst, uint64(d.ShortServerID), 10)
	}
	if d.ServerURI != "" {
		dst = appendLinkAttribute(dst, linkAttribute{Name: "uri", Value: d.ServerURI, HasValue: true, Quoted: true})
	}
	for a, v := range d.Attributes.all() {
		dst = append(dst, ';')
		dst = append(dst, a.String()...)
		dst = append(dst, '=')
		dst = append(dst, formatAttribute(v)...)
	}
	return dst
}
