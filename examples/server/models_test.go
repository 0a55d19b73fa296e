package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/lwm2m"
)

// TestModelsFlag reads a folder with good and bad files, in several folders and versions.
func TestModelsFlag(t *testing.T) {
	pump, err := os.ReadFile(filepath.Join("..", "..", "lwm2m", "testdata", "pump.xml"))
	require.NoError(t, err)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	write := func(name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	write("pump.xml", string(pump))
	write("old/pump-1_0.XML", strings.Replace(string(pump), "<ObjectVersion>1.3", "<ObjectVersion>1.0", 1))
	write("same.xml", string(pump))
	write("zzz.xml", strings.Replace(string(pump), "<Name>Flow", "<Name>Stream", 1))
	write("DDF.xml", "<DDFList></DDFList>")
	write("cut.xml", string(pump[:300]))
	write("empty.xml", "")
	write("..data/again.xml", "not read")
	write(".hidden.xml", "not read")
	write("notes.txt", "not read")
	var log bytes.Buffer
	models, err := loadModels(dir, slog.New(slog.NewTextHandler(&log, nil)))
	require.NoError(t, err)
	for version, want := range map[string]string{"1.0": "Flow", "1.3": "Stream"} {
		v, err := lwm2m.ParseVersion(version)
		require.NoError(t, err)
		o, ok := models.Object(26300, v)
		require.True(t, ok, version)
		require.Equal(t, want, o.Resources[0].Name, version)
	}
	_, ok := models.Object(3303, lwm2m.Version{})
	require.True(t, ok, "the registry's objects are there too")
	for _, file := range []string{"DDF.xml", "cut.xml", "empty.xml"} {
		require.Equal(t, 1, strings.Count(log.String(), filepath.Join(dir, file)), "%s: %s", file, log.String())
	}
	require.Equal(t, 1, strings.Count(log.String(), "two files differ"), log.String())
	require.NotContains(t, log.String(), "not read")
	require.Contains(t, log.String(), "objects=2")

	link := filepath.Join(t.TempDir(), "models")
	require.NoError(t, os.Symlink(dir, link))
	models, err = loadModels(link, slog.New(slog.DiscardHandler))
	require.NoError(t, err, "a link to the folder")
	_, ok = models.Object(26300, lwm2m.Version{})
	require.True(t, ok)

	for name, dir := range map[string]string{"no such file": filepath.Join(dir, "none"), "has no object model": t.TempDir()} {
		_, err := loadModels(dir, slog.New(slog.DiscardHandler))
		require.ErrorContains(t, err, "-models: ")
		require.ErrorContains(t, err, name)
	}
}
