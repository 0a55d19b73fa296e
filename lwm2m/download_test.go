package lwm2m_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
	"github.com/otago-iot/otago/lwm2m"
	"github.com/otago-iot/otago/lwm2m/simnet"
)

func fetchConfig(w *world) lwm2m.FetchConfig {
	return lwm2m.FetchConfig{Listen: func(context.Context) (net.PacketConn, error) { return w.net.Listen(deviceAddress) }}
}

func TestFetch(t *testing.T) {
	for _, test := range []struct {
		name string
		size int
		link simnet.Conditions
	}{
		{"empty", 0, simnet.Conditions{}},
		{"small", 10, simnet.Conditions{}},
		{"one block", 1024, simnet.Conditions{}},
		{"many blocks", 300_001, simnet.Conditions{}},
		{"loss", 50_000, lossy},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
				image := randomBytes(test.size)
				var served atomic.Int64
				w.server.Handle("/fw/a", &lwm2m.Download{
					Body: bytes.NewReader(image), Size: int64(len(image)), ETag: []byte("12345678"),
					Progress: func(offset int64) { served.Store(offset) },
				})
				w.net.SetDefault(test.link)
				var got bytes.Buffer
				config := fetchConfig(w)
				var done, total int64
				config.Progress = func(d, n int64) { done, total = d, n }
				result, err := lwm2m.Fetch(t.Context(), "coap://"+serverAddress+"/fw/a", &got, config)
				require.NoError(t, err)
				require.True(t, bytes.Equal(image, got.Bytes()))
				require.Equal(t, lwm2m.FetchResult{Size: int64(len(image)), ETag: []byte("12345678"), Written: int64(len(image))}, result)
				if test.size > 0 {
					require.EqualValues(t, len(image), done)
					require.EqualValues(t, len(image), total)
					require.EqualValues(t, len(image), served.Load())
				}
			})
		})
	}
}

// TestFetchProvesAddress downloads from a server with ProveAddress, and counts the bytes for an
// address that is not proven.
func TestFetchProvesAddress(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{ProveAddress: true}, func(t *testing.T, w *world) {
		image := randomBytes(10_000)
		w.server.Handle("/fw/a", &lwm2m.Download{Body: bytes.NewReader(image), Size: int64(len(image)), ETag: []byte("v1")})
		var answers []int
		w.net.Tap(func(p simnet.Packet) {
			if p.From.String() == serverAddress {
				answers = append(answers, len(p.Data))
			}
		})
		var got bytes.Buffer
		_, err := lwm2m.Fetch(t.Context(), "coap://"+serverAddress+"/fw/a", &got, fetchConfig(w))
		require.NoError(t, err)
		require.True(t, bytes.Equal(image, got.Bytes()))
		require.Less(t, answers[0], 64, "the first answer only challenges")
		require.Len(t, answers, 1+10)

		// A peer that does not see the answers gets only challenges, however often it asks.
		forged, err := w.net.Listen("10.0.0.9:0")
		require.NoError(t, err)
		answers = nil
		for mid := range byte(20) {
			_, err := forged.WriteTo([]byte("\x40\x01\x00"+string(rune(mid))+"\xb2fw\x01a"), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(serverAddress)))
			require.NoError(t, err)
		}
		synctest.Wait()
		require.Len(t, answers, 20)
		for _, n := range answers {
			require.Less(t, n, 64)
		}
	})
}

// TestFetchGoesOn interrupts a download and resumes it, at an offset that is no multiple of a
// block.
func TestFetchGoesOn(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		image := randomBytes(100_000)
		resource := &lwm2m.Download{Body: bytes.NewReader(image), Size: int64(len(image)), ETag: []byte("v1")}
		w.server.Handle("/fw/a", resource)
		const uri = "coap://" + serverAddress + "/fw/a"

		// The link breaks after some blocks.
		config := fetchConfig(w)
		config.Progress = func(done, _ int64) {
			if done > 40_000 {
				go w.cut(true)
			}
		}
		w.net.SetDefault(simnetDelay(10 * time.Millisecond))
		var got bytes.Buffer
		result, err := lwm2m.Fetch(t.Context(), uri, &got, config)
		require.ErrorIs(t, err, lwm2m.ErrTimeout)
		require.EqualValues(t, got.Len(), result.Written)
		require.Equal(t, []byte("v1"), result.ETag)
		require.Greater(t, got.Len(), 40_000)
		w.cut(false)

		got.Truncate(12_345) // for example what was synced to disk
		config = fetchConfig(w)
		config.Offset, config.ETag = int64(got.Len()), result.ETag
		result, err = lwm2m.Fetch(t.Context(), uri, &got, config)
		require.NoError(t, err)
		require.True(t, bytes.Equal(image, got.Bytes()))
		require.EqualValues(t, len(image), result.Size)

		// Another image has taken its place: nothing is written.
		w.server.Handle("/fw/a", &lwm2m.Download{Body: bytes.NewReader(image), Size: int64(len(image)), ETag: []byte("v2")})
		got.Reset()
		_, err = lwm2m.Fetch(t.Context(), uri, &got, config)
		require.ErrorIs(t, err, lwm2m.ErrChanged)
		require.Zero(t, got.Len())
		config.ETag = nil
		_, err = lwm2m.Fetch(t.Context(), uri, &got, config)
		require.ErrorIs(t, err, lwm2m.ErrBadRequest)
	})
}

func TestFetchErrors(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		w.server.HandleFunc("/closed/", func(context.Context, lwm2m.DownloadRequest) (*lwm2m.Download, error) {
			return nil, lwm2m.ErrForbidden
		})
		w.server.Handle("/big", &lwm2m.Download{Body: bytes.NewReader(randomBytes(5000)), Size: 5000})
		for _, test := range []struct {
			uri  string
			want error
		}{
			{"coap://" + serverAddress + "/nothing", lwm2m.ErrNotFound},
			{"coap://" + serverAddress + "/closed/x", lwm2m.ErrForbidden},
			{"coap://" + serverAddress + "/rd", lwm2m.ErrMethodNotAllowed},
			{"coap://" + serverAddress + "/big", lwm2m.ErrTooLarge},
			{"ftp://" + serverAddress + "/x", lwm2m.ErrUnsupportedScheme},
			{"coap:///x", lwm2m.ErrPath},
			{"coap://" + serverAddress + "/%zz", lwm2m.ErrPath},
			{"coap://user@" + serverAddress + "/x", lwm2m.ErrPath},
			{"coap://10.0.0.99/x", lwm2m.ErrTimeout},
		} {
			config := fetchConfig(w)
			config.MaxSize = 4000
			result, err := lwm2m.Fetch(t.Context(), test.uri, &bytes.Buffer{}, config)
			require.ErrorIs(t, err, test.want, test.uri)
			require.LessOrEqual(t, result.Written, int64(4000))
		}
		_, err := lwm2m.Fetch(t.Context(), "coaps://"+serverAddress+"/x", io.Discard, lwm2m.FetchConfig{PSK: []byte("key")})
		require.EqualError(t, err, "lwm2m: FetchConfig.PSKIdentity: not set, and PSK is")
	})
}

// TestHandleFunc checks the DownloadRequest, for requests on a device's own association and on
// others.
func TestHandleFunc(t *testing.T) {
	inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
		var got []lwm2m.DownloadRequest
		w.server.HandleFunc("/", func(_ context.Context, d lwm2m.DownloadRequest) (*lwm2m.Download, error) {
			got = append(got, d)
			return &lwm2m.Download{Body: bytes.NewReader([]byte("x")), Size: 1}, nil
		})
		_, err := lwm2m.Fetch(t.Context(), "coap://"+serverAddress+"//media/a%20b?c=d&e", &bytes.Buffer{}, fetchConfig(w))
		require.NoError(t, err)
		require.Len(t, got, 1)
		require.Equal(t, "//media/a b", got[0].Path)
		require.Equal(t, []string{"c=d", "e"}, got[0].Query)
		require.Empty(t, got[0].Endpoint)
		require.Equal(t, deviceIP, got[0].Address.Addr())
		require.Equal(t, serverAddress, got[0].Local.String())

		client := w.device(nil)
		_, err = client.Fetch(t.Context(), "coap://"+serverAddress+"/a", &bytes.Buffer{}, lwm2m.FetchConfig{})
		require.NoError(t, err)
		require.Len(t, got, 2)
		require.Equal(t, endpointName, got[1].Endpoint)
	})
}

// closing reports its Close.
type closing struct {
	*bytes.Reader
	closed chan struct{}
}

func (c closing) Close() error {
	close(c.closed)
	return nil
}

// TestDownloadAccept asks for a download in several formats: the server refuses formats other than
// the download's, and closes the body.
func TestDownloadAccept(t *testing.T) {
	for _, test := range []struct {
		format lwm2m.ContentFormat
		accept coap.Format
		code   coap.Code
	}{
		{0, coap.Format{}, coap.Content},
		{0, coap.FormatOf(42), coap.Content},
		{0, coap.FormatOf(0), coap.NotAcceptable},
		{0, coap.FormatOf(60), coap.NotAcceptable},
		{lwm2m.FormatOpaque, coap.FormatOf(11542), coap.NotAcceptable},
		{lwm2m.FormatCBOR, coap.FormatOf(60), coap.Content},
		{lwm2m.FormatCBOR, coap.FormatOf(42), coap.NotAcceptable},
	} {
		inWorld(t, lwm2m.ServerConfig{}, func(t *testing.T, w *world) {
			body := closing{bytes.NewReader(randomBytes(3000)), make(chan struct{})}
			w.server.HandleFunc("/", func(context.Context, lwm2m.DownloadRequest) (*lwm2m.Download, error) {
				return &lwm2m.Download{Body: body, Size: 3000, Format: test.format}, nil
			})
			conn, err := w.net.Listen(deviceAddress)
			require.NoError(t, err)
			ep := coap.New(coap.Config{})
			defer ep.Close()
			peer, err := ep.DialPacket(conn, netip.MustParseAddrPort(serverAddress))
			require.NoError(t, err)
			resp, err := ep.Do(t.Context(), peer, &coap.Request{Code: coap.GET, Path: []string{"x"}, Accept: test.accept})
			require.NoError(t, err)
			require.Equal(t, test.code, resp.Code, "%v as %v", test.format, test.accept)
			if test.code == coap.NotAcceptable {
				<-body.closed
			}
		})
	}
}
