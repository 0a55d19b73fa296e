package httpapi

import (
	"errors"
	"io"
	"net/http"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/internal/names"
	"github.com/otago-iot/otago/store"
)

const maxVersion = 255 // bytes of a version, and of a name

func (a *api) listImages(w http.ResponseWriter, r *http.Request, req request) error {
	limit, err := req.query.limit()
	if err != nil {
		return err
	}
	after, err := req.query.cursor("images")
	if err != nil {
		return err
	}
	has, err := req.query.part()
	if err != nil {
		return err
	}
	images := a.images.List(r.Context(), store.ImageQuery{After: after, Limit: limit + 1})
	if has != nil {
		images = fitting(a.images.List(r.Context(), store.ImageQuery{After: after, Limit: store.MaxSkipped}), func(i firmware.Image) bool {
			return has(i.ID, i.Name+" "+i.Version)
		})
	}
	return writePage(w, limit, "images", images, func(i firmware.Image) string { return i.ID }, viewImage)
}

func (a *api) getImage(w http.ResponseWriter, r *http.Request, req request) error {
	image, err := a.images.Get(r.Context(), req.image)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, viewImage(image))
}

func (a *api) deleteImage(w http.ResponseWriter, r *http.Request, req request) error {
	dry, err := req.query.flag("dry_run")
	if err != nil {
		return err
	}
	if dry {
		err = a.images.CheckDelete(r.Context(), req.image)
	} else {
		err = a.images.Delete(r.Context(), req.image)
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// addImage streams the body into the repository. A repeated upload is harmless: the same bytes
// under the same name and version are the same image.
func (a *api) addImage(w http.ResponseWriter, r *http.Request, req request) error {
	image := firmware.Image{
		Name: req.query.get("name"), Version: req.query.get("version"),
		Compatible: firmware.Compatible{
			Manufacturer: req.query.get("manufacturer"), Model: req.query.get("model"), Hardware: req.query.get("hardware"),
		},
	}
	if image.Version == "" {
		return invalidQuery("version", "version is missing: what resource 3/0/3 of a device that runs the image says")
	}
	if problem := names.Check(image.Version, 1, maxVersion); problem != "" {
		return invalidQuery("version", "version "+problem)
	}
	if problem := names.Check(image.Name, 0, maxVersion); problem != "" {
		return invalidQuery("name", "name "+problem)
	}
	for _, name := range []string{"manufacturer", "model", "hardware"} {
		// An empty value, perhaps one that a page left out by mistake, would fit every device.
		if problem := names.Check(req.query.get(name), 1, store.MaxFact); req.query.has(name) && problem != "" {
			return invalidQuery(name, name+" "+problem)
		}
	}
	switch {
	case r.ContentLength > a.config.MaxImage:
		return bodyTooLarge(a.config.MaxImage)
	case r.ContentLength == 0:
		return emptyImage()
	}
	body := &upload{body: http.MaxBytesReader(w, r.Body, a.config.MaxImage)}
	added, err := a.images.Add(r.Context(), image, body)
	switch {
	case errors.As(body.err, new(*http.MaxBytesError)):
		return bodyTooLarge(a.config.MaxImage)
	case body.err != nil && !errors.Is(body.err, io.EOF):
		return bodyBroken(body.err)
	case errors.Is(err, firmware.ErrEmpty):
		return emptyImage()
	case errors.Is(err, firmware.ErrTooLarge):
		return newProblem(http.StatusRequestEntityTooLarge, "too-large", "the image is larger than the repository takes")
	case err != nil:
		return err
	}
	w.Header().Set("Location", "images/"+added.ID) // relative to /api/v1/images, under any prefix
	return writeJSON(w, http.StatusCreated, viewImage(added))
}

func emptyImage() error {
	return newProblem(http.StatusBadRequest, "bad-request", "the image is empty")
}

// upload is a body that keeps its error, as the repository may not return it.
type upload struct {
	body io.Reader
	err  error
}

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.body.Read(p)
	if err != nil {
		u.err = err
	}
	return n, err
}
