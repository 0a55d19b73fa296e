package main

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/oma"
)

// loadModels returns the models of the registry and those of the XML files in and below a folder,
// none for "". A file that is no object model is a warning that names it, so that one bad file does
// not keep the server from its devices; a folder without any model is an error.
func loadModels(dir string, log *slog.Logger) (*lwm2m.Models, error) {
	models := oma.Models()
	if dir == "" {
		return models, nil
	}
	files, objects := map[string]string{}, 0
	root, err := filepath.EvalSymlinks(dir) // WalkDir follows no link, not even to its root
	if err != nil {
		return nil, fmt.Errorf("-models: %w", err)
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path != root && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() { // such as those in which Kubernetes keeps the files again
				return filepath.SkipDir
			}
			return nil
		case d.IsDir() || !strings.EqualFold(filepath.Ext(path), ".xml"):
			return nil
		}
		list, err := readModels(path)
		if err != nil {
			log.Warn("not an object model", slog.String("file", path), slog.Any("error", err))
			return nil
		}
		for _, m := range list {
			name := fmt.Sprintf("%d version %s", m.ID, m.Version)
			before, _ := models.Object(m.ID, m.Version)
			if first, ok := files[name]; ok && !reflect.DeepEqual(before, m) {
				log.Warn("two files differ about an object; the later one counts", slog.String("object", name),
					slog.String("file", path), slog.String("other", first))
			}
			files[name] = path
			objects++
		}
		return models.Add(list...)
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("-models: %w", err)
	case objects == 0:
		return nil, fmt.Errorf("-models: %s has no object model", dir)
	}
	log.Info("object models", slog.String("folder", dir), slog.Int("objects", len(files)))
	return models, nil
}

func readModels(path string) ([]*lwm2m.ObjectModel, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return lwm2m.ReadModelXML(f)
}
