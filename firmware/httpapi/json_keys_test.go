package httpapi

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestKeys: keys are the names of fields, in their case, and each is there once.
func TestKeys(t *testing.T) {
	type inner struct {
		Size json.RawMessage `json:"size"`
		More *[]inner        `json:"more"`
	}
	type embedded struct {
		Depth int `json:"depth"`
	}
	type body struct {
		embedded
		Name   string            `json:"name"`
		Labels map[string]string `json:"labels"`
		Stages []inner           `json:"stages"`
		Inner  *inner            `json:"inner"`
		By     map[string]inner  `json:"by"`
		Any    any               `json:"any"`
	}
	for text, want := range map[string]string{
		`{"name":"n","depth":1,"labels":{"Name":"","name":""},"stages":[{"size":{"Size":1e999,"size":2}}],"inner":null,"any":{"A":1,"a":2}}`: "",
		`{"Name":"n"}`:                                              `Name is written "name"`,
		`{"name":"n","NAME":"m"}`:                                   `NAME is written "name"`,
		`{"name":"n","name":"n"}`:                                   `name is there more than once`,
		`{"name":"n","\u006eame":"n"}`:                              `name is there more than once`,
		`{"DEPTH":1}`:                                               `DEPTH is written "depth"`,
		`{"nom":1}`:                                                 `nom is not a field of this call`,
		`{"labels":{"a":"1","a":"2"}}`:                              `labels.a is there more than once`,
		`{"stages":[{},{"Size":1}]}`:                                `stages[1].Size is written "size"`,
		`{"stages":[{"size":[{"a":1,"a":1}]}]}`:                     `stages[0].size[0].a is there more than once`,
		`{"inner":{"more":[{"MORE":[]}]}}`:                          `inner.more[0].MORE is written "more"`,
		`{"by":{"Size":{"siZe":1}}}`:                                `by.Size.siZe is written "size"`,
		`{"labels":null,"stages":null,"by":null,"any":[null]}`:      "",
		`{"labels":{"a":null}}`:                                     `labels.a must not be null`,
		`{"stages":[{},null]}`:                                      `stages[1] must not be null`,
		`{"by":{"a":null}}`:                                         `by.a must not be null`,
		`{"any":[[{"a":{"b":1,"b":1}}]]}`:                           `any[0][0].a.b is there more than once`,
		`{"any":{"` + strings.Repeat("x", 90) + `":{"b":1,"b":1}}}`: `any.` + strings.Repeat("x", 36),
	} {
		var b body
		err := decodeJSON([]byte(text), &b)
		if want == "" {
			require.NoError(t, err, text)
			continue
		}
		require.Error(t, err, text)
		p := asProblem(err)
		require.NotNil(t, p, "%v", err)
		require.Contains(t, p.Detail, want, text)
		require.Contains(t, p.Detail, p.Field)
	}
}
