package storetest

import (
	"errors"
	"testing"

	"github.com/otago-iot/otago/store"
)

func testImage(t *testing.T, db store.Store) {
	image := newImage("i1", "1.0")
	commit(t, db, store.CreateImage{Image: image})
	got, err := db.Image(t.Context(), "i1")
	failsWith(t, "Image", err, nil)
	equal(t, "stored image", got, image)

	refuse(t, db, store.ErrExists, store.CreateImage{Image: image})
	refuse(t, db, store.ErrExists, store.CreateImage{Image: newImage("i1", "2.0")})
	refuse(t, db, store.ErrVersionTaken, store.CreateImage{Image: newImage("i2", "1.0")})
	refuse(t, db, store.ErrNotFound, store.DeleteImage{ID: "i2"})

	other := newImage("i2", "1.0")
	other.Name = "another"
	commit(t, db, store.CreateImage{Image: other})
	// Name and version are distinct, even if they join to the same text.
	joined := newImage("i3", "0")
	joined.Name = "sensor1."
	commit(t, db, store.CreateImage{Image: joined})

	commit(t, db, store.DeleteImage{ID: "i1"})
	_, err = db.Image(t.Context(), "i1")
	failsWith(t, "Image after DeleteImage", err, store.ErrNotFound)
	q := store.ImageQuery{SHA256: image.SHA256}
	equal(t, "images with the bytes of a deleted one", collect(t, db.Images(t.Context(), q), imageID), []string{})
	commit(t, db, store.CreateImage{Image: newImage("i4", "1.0")})
}

func testImageInUse(t *testing.T, db store.Store) {
	seed(t, db)
	commit(t, db, store.CreateImage{Image: newImage("i11", "1.1")})
	commit(t, db, store.CreateUpdate{Update: newUpdate("u1", "ep1", "i11")}, store.CreateUpdate{Update: newUpdate("u2", "ep2", "i11")})
	err := refuse(t, db, store.ErrInUse, store.DeleteImage{ID: "i11"})
	var inUse *store.UpdateError
	if !errors.As(err, &inUse) || inUse.ID != "u1" && inUse.ID != "u2" {
		t.Fatalf("UpdateError = %+v, want one of the updates of i11", inUse)
	}
	commit(t, db, store.DeleteImage{ID: "i1"})
	commit(t, db, store.ReplaceUpdate{Update: ended(getUpdate(t, db, "u1"))})
	refuse(t, db, store.ErrInUse, store.DeleteImage{ID: "i11"})
	commit(t, db, store.ReplaceUpdate{Update: ended(getUpdate(t, db, "u2"))})
	commit(t, db, store.DeleteImage{ID: "i11"})
	equal(t, "image of an ended update", getUpdate(t, db, "u1").Image, "i11")
}

func testImageQueries(t *testing.T, db store.Store) {
	for n, i := range []store.Image{
		{ID: "a", Name: "x", Version: "1", SHA256: "s1", Size: 1},
		{ID: "b", Name: "x", Version: "2", SHA256: "s1", Size: 1},
		{ID: "c", Name: "y", Version: "1", SHA256: "s2", Size: 1},
		{ID: "d", Name: "y", Version: "2", SHA256: "s1", Size: 1},
	} {
		i.Created = epoch.AddDate(0, 0, -n)
		commit(t, db, store.CreateImage{Image: i})
	}
	for _, test := range []struct {
		q    store.ImageQuery
		want []string
	}{
		{store.ImageQuery{}, []string{"a", "b", "c", "d"}},
		{store.ImageQuery{Name: "x"}, []string{"a", "b"}},
		{store.ImageQuery{Version: "2"}, []string{"b", "d"}},
		{store.ImageQuery{Name: "y", Version: "1"}, []string{"c"}},
		{store.ImageQuery{SHA256: "s1"}, []string{"a", "b", "d"}},
		{store.ImageQuery{SHA256: "s1", After: "a"}, []string{"b", "d"}},
		{store.ImageQuery{SHA256: "s1", Name: "y"}, []string{"d"}},
		{store.ImageQuery{SHA256: "s"}, []string{}},
		{store.ImageQuery{After: "b"}, []string{"c", "d"}},
		{store.ImageQuery{After: "bb", Limit: 1}, []string{"c"}},
		{store.ImageQuery{Name: "y", Limit: 1}, []string{"c"}},
		{store.ImageQuery{After: "z"}, []string{}},
	} {
		if got := collect(t, db.Images(t.Context(), test.q), imageID); !sameStrings(got, test.want) {
			t.Errorf("Images(%+v) = %v, want %v", test.q, got, test.want)
		}
	}
}
