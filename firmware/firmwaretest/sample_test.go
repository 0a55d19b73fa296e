package firmwaretest_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/firmware/firmwaretest"
	"github.com/otago-iot/otago/firmware/fsm"
	"github.com/otago-iot/otago/lwm2m"
)

// sample is the sample firmware, with downloads that take a minute.
func sample(result fsm.Result) firmwaretest.Script {
	script := firmwaretest.FlownexusSample("")
	script.Pull = func(ctx context.Context, _ string) fsm.Result {
		select {
		case <-ctx.Done():
		case <-time.After(time.Minute):
		}
		return result
	}
	return script
}

// TestFlownexusSample: it answers the Write after the download, and its Result outlives that.
func TestFlownexusSample(t *testing.T) {
	scripted(t, sample(fsm.ResultDefault), func(w *world) {
		for _, text := range []string{"/binaries/a.bin", "/binaries/b.bin", ""} {
			begun := time.Now()
			require.NoError(w.t, w.write(uri, lwm2m.String(text)))
			require.GreaterOrEqual(w.t, time.Since(begun), time.Minute, "the answer comes after the download")
			require.Less(w.t, time.Since(begun), 2*time.Minute, "repeated requests find it answered")
			got, err := w.read(state)
			require.NoError(w.t, err)
			require.Equal(w.t, lwm2m.Integer(int64(fsm.Downloaded)), got, "no State between")
			if text == "/binaries/a.bin" {
				w.shows(fsm.Downloaded, fsm.ResultDefault)
			} else {
				w.shows(fsm.Downloaded, fsm.ResultSuccess) // it does not clear its Result
			}
			if text == "/binaries/b.bin" {
				continue // and downloads into State Downloaded
			}
			require.NoError(w.t, w.execute())
			w.shows(fsm.Idle, fsm.ResultSuccess)
			v, err := w.read(version)
			require.NoError(w.t, err)
			require.Equal(w.t, lwm2m.String("1.0"), v)
		}
		require.Equal(w.t, []string{"uri /binaries/a.bin", "execute", "uri /binaries/b.bin", "uri ", "execute"}, w.device.Log())
		require.Equal(w.t, 1, w.happened(lwm2m.EventRegistered), "it does not restart")
	})
}

// TestFlownexusSampleIsBusy: while it downloads it answers nothing else, and reads what came only
// afterwards.
func TestFlownexusSampleIsBusy(t *testing.T) {
	scripted(t, sample(fsm.ResultConnectionLost), func(w *world) {
		written := make(chan error, 1)
		go func() { written <- w.write(uri, lwm2m.String("/binaries/a.bin")) }()
		<-time.After(time.Second)
		begun := time.Now()
		got, err := w.read(state)
		require.NoError(w.t, err)
		require.Equal(w.t, lwm2m.Integer(int64(fsm.Idle)), got)
		require.Greater(w.t, time.Since(begun), 50*time.Second)
		requireCode(w.t, <-written, lwm2m.CodeInternal)
		w.shows(fsm.Idle, fsm.ResultConnectionLost)
	})
}

func TestFlownexusSampleCancel(t *testing.T) {
	scripted(t, sample(fsm.ResultDefault), func(w *world) {
		require.NoError(w.t, w.write(uri, lwm2m.String("/binaries/a.bin")))
		require.NoError(w.t, w.server.Execute(w.t.Context(), endpoint, lwm2m.NewPath(5, 0, 10), ""))
		w.shows(fsm.Idle, fsm.ResultUpdateFailed)
	})
}

// TestFlownexusSampleDownload: any answer with a header is firmware.
func TestFlownexusSampleDownload(t *testing.T) {
	for answer, want := range map[string]fsm.Result{
		"HTTP/1.0 200 OK\r\n\r\nfirmware":                                 fsm.ResultDefault,
		"HTTP/1.0 404 Not Found\r\nX: y\r\n\r\nno firmware":               fsm.ResultDefault,
		"HTTP/1.0 301 Moved\r\nLocation: /binaries/x.bin\r\n\r\n":         fsm.ResultDefault,
		"HTTP/1.0 200 OK\r\nContent-Length: 1000000\r\n\r\nonly this":     fsm.ResultDefault,
		"HTTP/1.0 200 OK\nContent-Type: application/octet-stream\n\nmore": fsm.ResultDefault,
		"HTTP/1.0 200 OK\r\n":                                             fsm.ResultUnsupProtocol,
		"":                                                                fsm.ResultUnsupProtocol,
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		requests := make(chan string, 1)
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				requests <- err.Error()
				return
			}
			defer conn.Close()
			request, in := "", bufio.NewReader(conn)
			for line := ""; line != "\r\n" && err == nil; request += line {
				line, err = in.ReadString('\n')
			}
			requests <- request
			_, _ = io.WriteString(conn, answer)
		}()
		host := listener.Addr().String()
		pull := firmwaretest.FlownexusSample(host).Pull
		require.Equal(t, want, pull(t.Context(), "/binaries/x.bin"), "%q", answer)
		require.Equal(t, "GET //binaries/x.bin HTTP/1.0\r\nHost: "+host+"\r\n\r\n", <-requests)
		require.NoError(t, listener.Close())
		require.Equal(t, fsm.ResultUpdateFailed, pull(t.Context(), "/binaries/x.bin"), "nothing listens: %s", strings.TrimSpace(answer))
	}
}
