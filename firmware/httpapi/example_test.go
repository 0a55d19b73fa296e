package httpapi_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/firmware/httpapi"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store/memory"
)

// The API, read-only, in an existing mux.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "images-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	db := memory.New()
	images, err := firmware.OpenRepository(dir, db, firmware.RepositoryConfig{})
	if err != nil {
		log.Fatal(err)
	}
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{})
	if err != nil {
		log.Fatal(err)
	}
	manager, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{})
	if err != nil {
		panic(err)
	}

	mux := http.NewServeMux()
	readers := func(r *http.Request, access httpapi.Access) error {
		if strings.HasSuffix(string(access.Action), ":read") {
			return nil
		}
		return errors.New("read only")
	}
	api, err := httpapi.New(manager, readers, httpapi.Config{})
	if err != nil {
		panic(err)
	}
	mux.Handle("/ota/", api)
	server := httptest.NewServer(mux)
	defer server.Close()

	show := func(response *http.Response, err error) {
		if err != nil {
			log.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		fmt.Printf("%d %s\n", response.StatusCode, body)
	}
	show(http.Get(server.URL + "/ota/api/v1/updates"))
	show(http.Post(server.URL+"/ota/api/v1/updates", "application/json", strings.NewReader(`{"endpoint": "dev", "image": "1"}`)))
	// Output:
	// 200 {"items":[]}
	//
	// 403 {"type":"tag:otago-iot.github.io,2026:problem:forbidden","title":"Not allowed","status":403,"detail":"not allowed: updates:write"}
}
