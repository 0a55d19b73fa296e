package firmware_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/otago-iot/otago/firmware"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/store/memory"
)

// Devices download from a CDN that checks a signature and an end. Devices that do not speak HTTPS
// are pushed to, as there is no Delivery.
func ExampleManagerConfig_packageURI() {
	secret := []byte("the secret that the CDN knows")
	packageURI := func(_ context.Context, u firmware.Update, p firmware.Protocol) (string, error) {
		if p != firmware.ProtocolHTTPS {
			return "", nil
		}
		path := "/firmware/" + u.Machine.Plan.Digest // the SHA-256 of the package, by which the CDN has it
		until := strconv.FormatInt(time.Unix(1_900_000_000, 0).Add(3*time.Hour).Unix(), 10)
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(path + until))
		query := url.Values{"until": {until}, "mac": {hex.EncodeToString(mac.Sum(nil)[:8])}}
		return "https://cdn.example.com" + path + "?" + query.Encode(), nil
	}
	db := memory.New()
	images, err := firmware.OpenRepository("/var/lib/ota/images", db, firmware.RepositoryConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	srv, err := lwm2m.NewServer(lwm2m.ServerConfig{Registrations: firmware.Registrations(db)})
	if err != nil {
		fmt.Println(err)
		return
	}
	mgr, err := firmware.NewManager(srv, db, images, firmware.ManagerConfig{PackageURI: packageURI})
	if err != nil {
		fmt.Println(err)
		return
	}
	// The CDN's log says that the device of an update has fetched its package to the last byte.
	fetched := func(ctx context.Context, update string) error { return mgr.Served(ctx, update) }
	_ = fetched
}
