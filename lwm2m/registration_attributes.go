package lwm2m

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

const (
	maxAttributes     = 16  // in one registration
	maxAttributeBytes = 512 // of Registration.Attributes
	maxQuery          = 255 // bytes of a Uri-Query option (RFC 7252, section 5.10)
)

// attributeEscapes escapes what url.ParseQuery would not read as it is.
var attributeEscapes = strings.NewReplacer("%", "%25", "&", "%26", "+", "%2B", ";", "%3B", "=", "%3D")

// encodeFurther returns the form of Registration.Attributes.
func encodeFurther(all map[string]string) string {
	if len(all) == 0 {
		return ""
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(attributeEscapes.Replace(name))
		b.WriteByte('=')
		b.WriteString(attributeEscapes.Replace(all[name]))
	}
	return b.String()
}

// decodeFurther is the inverse of encodeFurther. A store may hold anything: it skips what is not
// of that form.
func decodeFurther(s string) map[string]string {
	values, _ := url.ParseQuery(s)
	all := make(map[string]string, len(values))
	for name, list := range values {
		all[name] = list[0]
	}
	return all
}

// checkFurther refuses attributes that are too many, too long or not printable.
func checkFurther(all map[string]string) error {
	if len(all) > maxAttributes {
		return fmt.Errorf("%w: more than %d parameters that LwM2M does not define", ErrBadRequest, maxAttributes)
	}
	for name, value := range all {
		if err := checkText("the name of a parameter", name, maxAttributeBytes); err != nil {
			return err
		}
		if err := checkText(fmt.Sprintf("%.20q", name), value, maxAttributeBytes); err != nil {
			return err
		}
	}
	if len(encodeFurther(all)) > maxAttributeBytes {
		return fmt.Errorf("%w: the parameters that LwM2M does not define have more than %d bytes", ErrBadRequest, maxAttributeBytes)
	}
	return nil
}

// checkSentAttributes refuses attributes that a client cannot send so that a server reads the same.
func checkSentAttributes(all map[string]string) error {
	for name, value := range all {
		p, err := parseParameters([]string{name + "=" + value})
		read, ok := p.further[name]
		switch {
		case !ok || len(p.further) != 1:
			return fmt.Errorf("%.20q is no name of a further parameter", name)
		case err != nil && len(value) <= maxQuery || read != value:
			return fmt.Errorf("%.20q and its value are not printable UTF-8", name)
		case len(name)+len("=")+len(value) > maxQuery:
			return fmt.Errorf("%.20q and its value have more than %d bytes", name, maxQuery)
		}
	}
	if len(all) > maxAttributes || len(encodeFurther(all)) > maxAttributeBytes {
		return fmt.Errorf("more than %d, or than %d bytes together", maxAttributes, maxAttributeBytes)
	}
	return nil
}
