package lwm2m_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

func TestArguments(t *testing.T) {
	for text, want := range map[string][]lwm2m.Argument{
		"":                   nil,
		"5":                  {{Digit: 5}},
		"2='10.3'":           {{Digit: 2, Value: "10.3", HasValue: true}},
		"7,0='https://x'":    {{Digit: 7}, {Digit: 0, Value: "https://x", HasValue: true}},
		"0=''":               {{Digit: 0, HasValue: true}},
		"0='</33629/1>,=&;'": {{Digit: 0, Value: "</33629/1>,=&;", HasValue: true}},
	} {
		got, err := lwm2m.ParseArguments(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
	}
	for text, offset := range map[string]int{
		"a": 0, ",": 0, "0,": 2, "0,,1": 2, "0 ": 1, " 0": 0, "10": 1, "0=": 2, "0=a": 2, "0='a": 4, "0='a b'": 4,
		"0='a\\'": 4, "0='\"'": 3, "0,0": 2, "0='a'b": 5, "0='\x7f'": 3,
	} {
		_, err := lwm2m.ParseArguments(text)
		fe, ok := errors.AsType[*lwm2m.FormatError](err)
		require.True(t, ok, text)
		require.Equal(t, offset, fe.Offset, text)
	}
}

func FuzzParseArguments(f *testing.F) {
	for _, s := range []string{"", "5", "2='10.3'", "7,0='https://x'", "0,1,2", "0='", "00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args, err := lwm2m.ParseArguments(s)
		if err != nil {
			requireMalformed(t, err, []byte(s))
			return
		}
		var texts []string
		for _, a := range args {
			text := strconv.Itoa(int(a.Digit))
			if a.HasValue {
				text += "='" + a.Value + "'"
			}
			texts = append(texts, text)
		}
		require.Equal(t, s, strings.Join(texts, ","))
	})
}
