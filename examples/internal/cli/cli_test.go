package cli_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/cli"
)

func TestParse(t *testing.T) {
	env := map[string]string{"OTAGO_FW_HTTP": "env", "OTAGO_COUNT": "7"}
	lookup := func(k string) (string, bool) { v, ok := env[k]; return v, ok }
	tests := map[string]struct {
		args  []string
		env   func(string) (string, bool)
		fw    string
		count int
		usage bool
	}{
		"defaults":             {env: func(string) (string, bool) { return "", false }, fw: "default", count: 1},
		"environment":          {env: lookup, fw: "env", count: 7},
		"argument wins":        {args: []string{"-fw-http", "arg"}, env: lookup, fw: "arg", count: 7},
		"empty argument wins":  {args: []string{"-fw-http="}, env: lookup, fw: "", count: 7},
		"unknown flag":         {args: []string{"-nope"}, env: lookup, usage: true},
		"bad value":            {args: []string{"-count", "x"}, env: lookup, usage: true},
		"bad environment":      {env: func(k string) (string, bool) { return "x", k == "OTAGO_COUNT" }, usage: true},
		"left over are no bug": {args: []string{"rest"}, env: lookup, fw: "env", count: 7},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			fs := cli.NewFlagSet(io.Discard, "program", "[flags]", "does things")
			fw := fs.String("fw-http", "default", "")
			count := fs.Int("count", 1, "")
			err := cli.Parse(fs, tt.args, tt.env)
			if tt.usage {
				require.ErrorIs(t, err, cli.ErrUsage)
				require.Equal(t, cli.StatusUsage, cli.Status("program", io.Discard, err))
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.fw, *fw)
			require.Equal(t, tt.count, *count)
		})
	}
}

func TestHelp(t *testing.T) {
	var out bytes.Buffer
	fs := cli.NewFlagSet(&out, "program", "[flags]", "does things")
	fs.Int("count", 1, "how many")
	err := cli.Parse(fs, []string{"-h"}, os.LookupEnv)
	require.ErrorIs(t, err, flag.ErrHelp)
	require.Equal(t, cli.StatusOK, cli.Status("program", io.Discard, err))
	require.Contains(t, out.String(), "does things")
	require.Contains(t, out.String(), "how many")
}

func TestStatus(t *testing.T) {
	var out bytes.Buffer
	require.Equal(t, cli.StatusError, cli.Status("program", &out, errors.New("broken")))
	require.Equal(t, "program: broken\n", out.String())
}

func TestReadSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte(" s3cret\n"), 0o600))
	got, err := cli.ReadSecret(path)
	require.NoError(t, err)
	require.Equal(t, "s3cret", string(got))

	require.NoError(t, os.WriteFile(path, []byte(" \n"), 0o600))
	_, err = cli.ReadSecret(path)
	require.ErrorContains(t, err, "empty")
	require.NoError(t, os.WriteFile(path, make([]byte, 1<<20), 0o600))
	_, err = cli.ReadSecret(path)
	require.ErrorContains(t, err, "longer")
	_, err = cli.ReadSecret(path + "-missing")
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestList(t *testing.T) {
	var l cli.List
	require.NoError(t, l.Set("a, b"))
	require.NoError(t, l.Set("c,"))
	require.Equal(t, cli.List{"a", "b", "c"}, l)
	require.Equal(t, "a,b,c", l.String())
}
