package interop_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sync/errgroup"
)

func init() {
	roles["load"] = load
	roles["sink"] = sinks
}

const (
	smallPath = "small"
	smallText = "hello, world"
	imagePath = "image"
	imageSize = 1 << 20
	blockSize = 1024
)

// load sends requests to a server. It is the same for all servers.
func load() error {
	image := bodyOf(imageSize)
	return act("ready", func(words []string) (string, error) {
		to, err := netip.ParseAddrPort(words[1])
		if err != nil {
			return "", err
		}
		n, err := strconv.Atoi(words[2])
		if err != nil {
			return "", err
		}
		began := time.Now()
		switch words[0] {
		case "small":
			err = everybody(64, func(int) error { return small(to, n/64) })
		case "pull":
			err = everybody(n, func(int) error { return pull(to, image) })
		case "meet":
			err = meet(to, n)
		}
		return strconv.FormatInt(int64(time.Since(began)), 10), err
	})
}

func everybody(n int, f func(i int) error) error {
	var group errgroup.Group
	for i := range n {
		group.Go(func() error { return f(i) })
	}
	return group.Wait()
}

// tries is how often the load sends a datagram before it gives up. Timeouts are short, because on
// loopback only full buffers lose datagrams.
const tries = 20

const timeout = 500 * time.Millisecond

// window is how many small requests a client has in progress. Those of all clients fit into a
// receive buffer of default size.
const window = 2

// small makes n small requests, with a window of them in progress.
func small(to netip.AddrPort, n int) error {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer conn.Close()
	batch := ipv4.NewPacketConn(conn)
	in, out := make([]ipv4.Message, window), make([]ipv4.Message, window)
	for i := range in {
		in[i].Buffers = [][]byte{make([]byte, 256)}
		out[i].Buffers = [][]byte{make([]byte, 0, 64)}
	}
	waiting := make(map[uint16]bool, window)
	mid, done, silent := uint16(time.Now().UnixNano()), 0, 0
	for done < n {
		k := 0
		for ; len(waiting) < window && done+len(waiting) < n; k++ {
			mid++
			waiting[mid] = true
			out[k].Buffers[0] = getMessage(out[k].Buffers[0][:0], mid, smallPath, -1)
		}
		for sent := 0; sent < k; {
			m, err := batch.WriteBatch(out[sent:k], 0)
			if err != nil {
				return err
			}
			sent += m
		}
		_ = conn.SetReadDeadline(time.Now().Add(timeout))
		m, err := batch.ReadBatch(in, 0)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if silent++; silent == tries {
				return err
			}
			clear(waiting) // lost: send them again
			continue
		}
		if err != nil {
			return err
		}
		silent = 0
		for i := range m {
			b := in[i].Buffers[0][:in[i].N]
			if len(b) < 4 {
				return errWire
			}
			id := binary.BigEndian.Uint16(b[2:])
			if !waiting[id] {
				continue
			}
			if text, err := payloadOf(b, id); err != nil || string(text) != smallText {
				return fmt.Errorf("%w: %x", errWire, b)
			}
			delete(waiting, id)
			done++
		}
	}
	return nil
}

// pull fetches the image in blocks of 1024.
func pull(to netip.AddrPort, image []byte) error {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer conn.Close()
	out, in := make([]byte, 0, 64), make([]byte, 2048)
	for num := range len(image) / blockSize {
		out = getMessage(out[:0], uint16(num), imagePath, num)
		payload, err := ask(conn, out, in)
		if err != nil {
			return err
		}
		if !bytes.Equal(payload, image[num*blockSize:(num+1)*blockSize]) {
			return fmt.Errorf("%w: block %d", errWire, num)
		}
	}
	return nil
}

// ask sends a request until it gets the answer.
func ask(conn *net.UDPConn, request, in []byte) ([]byte, error) {
	mid := binary.BigEndian.Uint16(request[2:])
	var last error
	for range tries {
		if _, err := conn.Write(request); err != nil {
			return nil, err
		}
		_ = conn.SetReadDeadline(time.Now().Add(timeout))
		for {
			n, err := conn.Read(in)
			if err != nil {
				last = err
				break
			}
			if n > 4 && binary.BigEndian.Uint16(in[2:]) == mid {
				return payloadOf(in[:n], mid)
			}
		}
	}
	return nil, last
}

// meet makes one small request from each of n addresses.
func meet(to netip.AddrPort, n int) error {
	out, in := make([]byte, 0, 64), make([]byte, 256)
	for i := range n {
		from := &net.UDPAddr{IP: net.IPv4(127, 1+byte(i>>16), byte(i>>8), byte(i)), Port: 5683}
		conn, err := net.DialUDP("udp4", from, net.UDPAddrFromAddrPort(to))
		if err != nil {
			return err
		}
		out = getMessage(out[:0], uint16(i), smallPath, -1)
		_, err = ask(conn, out, in)
		conn.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// sinks are devices, each at its own address, that receive an image by Block1.
func sinks() error {
	image := bodyOf(imageSize)
	var addrs []string
	for range devices {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return err
		}
		addrs = append(addrs, conn.LocalAddr().String())
		go func() {
			in, out := make([]byte, 2048), make([]byte, 0, 64)
			for {
				n, from, err := conn.ReadFromUDPAddrPort(in)
				if err != nil {
					return
				}
				answer, num, more, payload, err := acknowledge(out[:0], in[:n])
				if errors.Is(err, errNotPut) {
					continue // a Reset after a duplicate acknowledgement
				}
				if err != nil || len(payload) != blockSize || more != (num < imageSize/blockSize-1) ||
					!bytes.Equal(payload, image[num*blockSize:(num+1)*blockSize]) {
					fmt.Fprintf(os.Stderr, "bad block %d of %d bytes: %v\n", num, len(payload), err)
					os.Exit(1)
				}
				_, _ = conn.WriteToUDPAddrPort(answer, from)
			}
		}()
	}
	return act(strings.Join(addrs, " "), func([]string) (string, error) { return "", nil })
}
