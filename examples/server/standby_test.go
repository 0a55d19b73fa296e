//go:build unix

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/examples/internal/demo"
	"github.com/otago-iot/otago/firmware/device"
	"github.com/otago-iot/otago/internal/pgtest"
)

// freePort returns a UDP port that is free now.
func freePort(t *testing.T) string {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer conn.Close()
	return conn.LocalAddr().String()
}

// TestStandby kills a server in the middle of an update: the standby goes on where it was.
func TestStandby(t *testing.T) {
	notShort(t)
	t.Parallel()
	database := pgtest.Start(t, "fsync=off")
	url, at := database.URL(), freePort(t)
	first := startServer(t, "-data", t.TempDir(), "-store", url, "-coap", at)
	standby := launchServer(t, "-data", t.TempDir(), "-store", url, "-coap", at, "-standby")
	require.Eventually(t, func() bool { return strings.Contains(standby.text(), "waits for the end of another server") },
		20*time.Second, 10*time.Millisecond)
	refused := launchServer(t, "-data", t.TempDir(), "-store", url, "-coap", at)
	<-refused.done
	require.Contains(t, refused.text(), "-standby waits for its end")

	stop := startDevice(t, "dev-1", "coap://"+at, device.Config{})
	image := first.upload("1.1.0", demo.Image("1.1.0", 3_000_000))
	u := first.start(`{"endpoint":"dev-1","image":%q,"delivery":"pull","protocol":"coap"}`, image)
	first.await(u.ID, func(u update) bool { return u.Progress.Bytes > 100_000 })
	require.NoError(t, first.cmd.Process.Kill())
	began := time.Now()
	standby.awaitListening()
	t.Logf("took over after %v", time.Since(began))
	u = standby.await(u.ID, ended)
	require.Equal(t, "succeeded", u.Outcome, "%+v", u)
	out, err := command(t, "export", "-store", url)
	require.NoError(t, err)
	require.Contains(t, out, u.ID+",dev-1,"+image+",demo,1.0.0,1.1.0,IDLE,SUCCESS,SUCCESS,succeeded,")
	askDatabase(t, database, u)
	stop()
	require.Equal(t, 0, standby.stop(), standby.text())
}

// askDatabase asks the questions of doc/sql.md with psql, while a server runs. It expects an answer
// to those that are about an update which has succeeded.
func askDatabase(t *testing.T, database *pgtest.Server, u update) {
	t.Helper()
	text, err := os.ReadFile("../../doc/sql.md")
	require.NoError(t, err)
	questions := strings.Split(string(text), "\n## ")[1:]
	require.GreaterOrEqual(t, len(questions), 10)
	answers := map[string]string{}
	for _, q := range questions {
		title, body, _ := strings.Cut(q, "\n")
		for _, part := range strings.Split(body, "```sql\n")[1:] {
			sql, _, _ := strings.Cut(part, "```")
			sql = strings.NewReplacer("sensor-0001", u.Endpoint, "'sensor'", "'demo'", "'2.0'", "'1.1.0'").Replace(sql)
			out, err := database.Command("psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-c", "SET search_path TO otago", "-c", sql).CombinedOutput()
			require.NoError(t, err, "%s: %s", title, out)
			answers[title] += string(out)
		}
	}
	require.Contains(t, answers["How did the updates to a version end?"], "succeeded|version|1\n")
	require.Contains(t, answers["What happened to one device?"], "|execute|")
	require.Contains(t, answers["Which versions does the fleet run?"], "1.1.0|1|1\n")
	require.Contains(t, answers["How long did updates take?"], "1.1.0|1|")
	require.Contains(t, answers["Which server has the namespace?"], "otago|")
	require.Contains(t, answers["Following what happens"]+answers["What happened to one device?"], "succeeded")
}

// notShort leaves a test out that waits for the end of a lease, or of an outage.
func notShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("a lease of 10 s is not short")
	}
}

// suspend stops a server, and returns when none of its threads runs.
func suspend(t *testing.T, s *server) {
	t.Helper()
	require.NoError(t, s.cmd.Process.Signal(syscall.SIGSTOP))
	var status syscall.WaitStatus
	_, err := syscall.Wait4(s.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
	require.NoError(t, err)
	require.True(t, status.Stopped())
}

// TestStoppedServer stops a server, and wakes it up when another one has taken over: it answers
// nothing, and ends.
func TestStoppedServer(t *testing.T) {
	notShort(t)
	t.Parallel()
	url := pgtest.Start(t, "fsync=off").URL()
	first := startServer(t, "-data", t.TempDir(), "-store", url)
	standby := launchServer(t, "-data", t.TempDir(), "-store", url, "-standby")
	device, err := net.Dial("udp4", strings.TrimPrefix(first.coap(), "coap://"))
	require.NoError(t, err)
	defer device.Close()
	ask := func(id byte) { // GET /.well-known/core, which a server answers
		_, err := device.Write([]byte("\x40\x01\x00" + string(rune(id)) + "\xbb.well-known\x04core"))
		require.NoError(t, err)
	}
	answer := func(wait time.Duration) error {
		require.NoError(t, device.SetReadDeadline(time.Now().Add(wait)))
		_, err := device.Read(make([]byte, 2000))
		return err
	}
	ask(1)
	require.NoError(t, answer(20*time.Second))

	suspend(t, first)
	for id := byte(2); id < 20; id++ {
		ask(id)
	}
	standby.awaitListening()
	require.NoError(t, first.cmd.Process.Signal(syscall.SIGCONT))
	select {
	case <-first.done:
	case <-time.After(30 * time.Second):
		t.Fatal("the server that lost its store goes on")
	}
	_ = first.cmd.Wait() // the status says it
	require.NotZero(t, first.cmd.ProcessState.ExitCode())
	require.Contains(t, first.text(), "another server has taken over")
	require.Error(t, answer(time.Second), "an answer left after the end of the lease")
	status, _ := call[map[string]any](standby, "GET", "/updates", "", nil)
	require.Equal(t, 200, status, fmt.Sprint(standby.text()))
	require.Equal(t, 0, standby.stop(), standby.text())
}

// TestStandbyBeforeDatabase starts a standby before its database, and one that the database
// refuses.
func TestStandbyBeforeDatabase(t *testing.T) {
	notShort(t)
	t.Parallel()
	database := pgtest.Start(t, "fsync=off")
	database.Kill()
	standby := launchServer(t, "-data", t.TempDir(), "-store", database.URL(), "-standby")
	require.Eventually(t, func() bool { return strings.Contains(standby.text(), "waits for the database") }, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, database.Start())
	standby.awaitListening()
	require.Equal(t, 0, standby.stop(), standby.text())

	refused := launchServer(t, "-data", t.TempDir(), "-store", strings.Replace(database.URL(), "/postgres?", "/elsewhere?", 1), "-standby")
	<-refused.done
	require.Contains(t, refused.text(), `database "elsewhere" does not exist`)
}

// TestDatabaseAway kills the database in the middle of updates, and brings it back later: the
// server says that it cannot answer, devices stay registered, and each update goes on where it was.
func TestDatabaseAway(t *testing.T) {
	notShort(t)
	t.Parallel()
	database := pgtest.Start(t, "fsync=off")
	s := startServer(t, "-data", t.TempDir(), "-store", database.URL())
	image := s.upload("1.1.0", demo.Image("1.1.0", 400_000))
	var updates []string
	var devices []func()
	for n := range 8 {
		endpoint := fmt.Sprint("dev-", n)
		devices = append(devices, startDevice(t, endpoint, s.coap(), device.Config{}))
		updates = append(updates, s.start(`{"endpoint":%q,"image":%q,"delivery":"push"}`, endpoint, image).ID)
	}
	s.await(updates[7], func(u update) bool { return u.Progress.Bytes > 0 })
	database.Kill()
	status, problem := call[struct{ Title string }](s, "GET", "/updates", "", nil)
	require.GreaterOrEqual(t, status, 500, "%+v", problem)
	<-time.After(3 * time.Second)
	ready := func() (status int, body string) { // 0 when the lease is over, and nothing is answered
		answer, err := http.Get(strings.TrimSuffix(s.api(), "/api/v1") + "/readyz")
		if err != nil {
			return 0, ""
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(text)
	}
	if status, body := ready(); status != 0 {
		require.Equal(t, 503, status)
		require.Contains(t, body, "The store does not answer.")
	}
	require.NoError(t, database.Start())
	require.Eventually(t, func() bool { status, _ := ready(); return status == 200 }, 40*time.Second, 50*time.Millisecond)
	for _, id := range updates {
		u := s.await(id, ended)
		require.Equal(t, "succeeded", u.Outcome, "%+v", u)
		executed := 0
		for _, e := range u.Journal {
			if e.Event == "execute_accepted" {
				executed++
			}
		}
		// The step of an Execute may be stored without the server knowing: it then tries again.
		require.LessOrEqual(t, executed, 1, "%+v", u.Journal)
	}
	_, list := call[struct {
		Items []struct{ Online bool }
	}](s, "GET", "/devices", "", nil)
	require.Len(t, list.Items, 8)
	for _, d := range list.Items {
		require.True(t, d.Online)
	}
	for _, stop := range devices {
		stop()
	}
	require.Equal(t, 0, s.stop(), s.text())
}
