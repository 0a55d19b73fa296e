package coap_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/plgd-dev/go-coap/v3/message"
	"github.com/plgd-dev/go-coap/v3/message/codes"
	"github.com/stretchr/testify/require"

	"github.com/otago-iot/otago/internal/coap"
)

type vector struct {
	Name, Format, Text, Hex, Error string
	Valid, Canonical               bool
	Meaning                        struct {
		Num        uint32
		More       bool
		SZX        uint8
		Size       int
		ByteOffset int64 `json:"byte_offset"`
	}
}

func vectors(t *testing.T) []vector {
	t.Helper()
	data, err := os.ReadFile("testdata/block.json")
	require.NoError(t, err)
	var all []vector
	require.NoError(t, json.Unmarshal(data, &all))
	require.NotEmpty(t, all)
	return all
}

func TestBlockOptionVectors(t *testing.T) {
	n := 0
	for _, v := range vectors(t) {
		if !strings.HasSuffix(v.Format, "option-value") {
			continue
		}
		n++
		t.Run(v.Name, func(t *testing.T) {
			value, err := hex.DecodeString(v.Hex)
			require.NoError(t, err)
			b, err := coap.ParseBlock(value)
			if !v.Valid {
				require.True(t, err != nil || b.SZX == 7, "accepted")
				return
			}
			require.NoError(t, err)
			require.Equal(t, coap.BlockFields{
				Num: v.Meaning.Num, More: v.Meaning.More, SZX: v.Meaning.SZX,
				Size: v.Meaning.Size, Offset: v.Meaning.ByteOffset,
			}, b)
			if v.Canonical {
				require.Equal(t, v.Hex, hex.EncodeToString(coap.AppendBlock(b)))
			}
		})
	}
	require.Equal(t, 23, n)
}

// line is a message of an exchange in the shorthand of RFC 7959, section 3: "> PUT 1:0/1/128
// Size1=9" or "< 2.31 1:0/1/128".
type line struct {
	request bool
	code    codes.Code
	b1, b2  string // NUM/M/SIZE
	size1   int
	etag    byte
}

var methods = map[string]codes.Code{"GET": codes.GET, "PUT": codes.PUT, "POST": codes.POST}

// parseLines reads an exchange up to "...".
func parseLines(t *testing.T, text string) (lines []line, whole bool) {
	t.Helper()
	scanner := bufio.NewScanner(strings.NewReader(text))
	for scanner.Scan() {
		f := strings.Fields(scanner.Text())
		switch f[0] {
		case "...":
			return lines, false
		case ">", "<":
		default:
			continue // a comment
		}
		l := line{request: f[0] == ">"}
		if l.request {
			l.code = methods[f[1]]
			require.NotZero(t, l.code, f[1])
		} else {
			var c, dd int
			_, err := fmt.Sscanf(f[1], "%d.%02d", &c, &dd)
			require.NoError(t, err)
			l.code = codes.Code(c<<5 | dd)
		}
		for _, word := range f[2:] {
			if strings.HasPrefix(word, "(") {
				break
			}
			number, value, ok := strings.Cut(word, ":")
			if !ok {
				number, value, _ = strings.Cut(word, "=")
			}
			switch number {
			case "1":
				l.b1 = value
			case "2":
				l.b2 = value
			case "Size1":
				l.size1, _ = strconv.Atoi(value)
			case "ETag":
				v, err := strconv.ParseUint(value, 0, 8)
				require.NoError(t, err)
				l.etag = byte(v)
			default:
				t.Fatalf("unknown: %s", word)
			}
		}
		lines = append(lines, l)
	}
	return lines, true
}

// blockValue parses NUM/M/SIZE into an option value and its fields.
func blockValue(s string) ([]byte, coap.BlockFields) {
	var num, more, size int
	fmt.Sscanf(s, "%d/%d/%d", &num, &more, &size)
	b := coap.BlockFields{Num: uint32(num), More: more == 1, Size: size, Offset: int64(num * size)}
	for 16<<b.SZX < size {
		b.SZX++
	}
	return coap.AppendBlock(b), b
}

func shorthand(opts message.Options, id message.OptionID) string {
	v, err := opts.GetBytes(id)
	if err != nil {
		return ""
	}
	b, err := coap.ParseBlock(v)
	if err != nil {
		return "bad"
	}
	m := 0
	if b.More {
		m = 1
	}
	return fmt.Sprintf("%d/%d/%d", b.Num, m, b.Size)
}

// bodySize returns the size of a body whose last block is in lines.
func bodySize(lines []line, request bool, of func(line) string) int {
	size := 0
	for _, l := range lines {
		if s := of(l); l.request == request && s != "" {
			_, b := blockValue(s)
			size = max(size, int(b.Offset)+b.Size-3)
			if b.More {
				size = max(size, int(b.Offset)+b.Size+1)
			}
		}
	}
	return size
}

func block1(l line) string { return l.b1 }
func block2(l line) string { return l.b2 }

// cut returns the block of body that s describes.
func cut(body []byte, s string) []byte {
	if s == "" {
		return nil
	}
	_, b := blockValue(s)
	return body[min(int(b.Offset), len(body)):min(int(b.Offset)+b.Size, len(body))]
}

// Our client makes the requests of each exchange when it gets the responses.
func TestExchangesAsClient(t *testing.T) {
	for _, v := range vectors(t) {
		lines, whole := parseLines(t, v.Text)
		if v.Format != "coap-block-exchange" || v.Name == "bad_first_block_not_zero" || v.Name == "bad_too_large" || v.Name == "bad_sequence_gap" {
			continue // the others are about faulty clients
		}
		t.Run(v.Name, func(t *testing.T) {
			up := bodyOf(bodySize(lines, true, block1))
			down := bodyOf(bodySize(lines, false, block2))
			config := coap.Config{}
			req := &coap.Request{Code: lines[0].code, Path: []string{"example"}, Payload: up}
			_, first := blockValue(lines[0].b1 + lines[0].b2)
			switch {
			case lines[0].b1 != "":
				req.BlockSize = first.Size
			case lines[0].b2 != "":
				req.BlockSize = first.Size
				req.Offset = first.Offset
			case v.Name == "get_late_negotiation":
				config.BlockSize = 64
			}
			if req.Offset > 0 {
				req.ETag = []byte{0xaa}
			}
			inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
				type result struct {
					resp *coap.Response
					err  error
				}
				results := make(chan result, 1)
				go func() {
					resp, err := e.Do(t.Context(), r.peer(), req)
					results <- result{resp, err}
				}()
				var got []byte
				var token message.Token
				for i := 0; i+1 < len(lines); i += 2 {
					ask, answer := lines[i], lines[i+1]
					m := r.receive()
					require.Equal(t, ask.code, m.Code)
					require.Equal(t, ask.b1, shorthand(m.Options, message.Block1), "Block1 of request %d", i/2)
					require.Equal(t, ask.b2, shorthand(m.Options, message.Block2), "Block2 of request %d", i/2)
					if ask.b1 != "" {
						got = append(got, m.Payload...)
						if i > 0 {
							require.Equal(t, token, m.Token, "one token for a Block1 transfer")
						}
						token = m.Token
					}
					reply := message.Message{Type: ack, Code: answer.code, MessageID: m.MessageID, Token: m.Token}
					if answer.etag != 0 {
						reply.Options = reply.Options.Add(option(message.ETag, answer.etag))
					}
					for id, s := range map[message.OptionID]string{message.Block1: answer.b1, message.Block2: answer.b2} {
						if s != "" {
							value, _ := blockValue(s)
							reply.Options = reply.Options.Add(message.Option{ID: id, Value: value})
						}
					}
					reply.Payload = cut(down, answer.b2)
					r.send(reply)
				}
				if !whole || v.Error == "etag_changed" {
					// The transfer continues with the next block, or restarts with the first.
					m := r.receive()
					if v.Error == "etag_changed" {
						require.Equal(t, "0/0/1024", shorthand(m.Options, message.Block2))
					}
					r.send(message.Message{Type: rst, MessageID: m.MessageID})
					require.Error(t, (<-results).err)
					return
				}
				res := <-results
				require.NoError(t, res.err)
				require.Equal(t, lines[len(lines)-1].code, res.resp.Code)
				require.True(t, bytes.Equal(up, got))
				require.True(t, bytes.Equal(down, res.resp.Payload))
			})
		})
	}
}

// Our server gives the responses of each exchange when it gets the requests.
func TestExchangesAsServer(t *testing.T) {
	for _, v := range vectors(t) {
		lines, _ := parseLines(t, v.Text)
		if v.Format != "coap-block-exchange" || v.Name == "put_stateless" || v.Error == "etag_changed" {
			continue // the others are about other servers
		}
		t.Run(v.Name, func(t *testing.T) {
			up := bodyOf(bodySize(lines, true, block1))
			down := bodyOf(bodySize(lines, false, block2))
			var got []byte
			config := coap.Config{MaxBody: 1 << 20, Handler: handler(func(r *coap.IncomingRequest) *coap.Response {
				got = bytes.Clone(r.Payload)
				code := coap.Content
				if r.Code != coap.GET {
					code = coap.Changed
				}
				resp := &coap.Response{Code: code, Payload: down}
				for _, l := range lines {
					if l.etag != 0 {
						resp.ETag = []byte{l.etag}
					}
				}
				return resp
			})}
			if s := lines[1].b2 + lines[1].b1; s != "" {
				_, b := blockValue(s)
				config.BlockSize = b.Size
			}
			inRaw(t, config, func(t *testing.T, e *coap.Endpoint, r *raw) {
				for i := 0; i+1 < len(lines); i += 2 {
					ask, answer := lines[i], lines[i+1]
					m := request(con, ask.code, int32(i+1), "example")
					for id, s := range map[message.OptionID]string{message.Block1: ask.b1, message.Block2: ask.b2} {
						if s != "" {
							value, _ := blockValue(s)
							m.Options = m.Options.Add(message.Option{ID: id, Value: value})
						}
					}
					if ask.size1 != 0 {
						value := make([]byte, 4)
						n, err := message.EncodeUint32(value, uint32(ask.size1))
						require.NoError(t, err)
						m.Options = m.Options.Add(message.Option{ID: message.Size1, Value: value[:n]})
					}
					if ask.b1 != "" {
						m.Payload = cut(up, ask.b1)
					}
					r.send(m)
					reply := r.receive()
					require.Equal(t, answer.code, reply.Code)
					require.Equal(t, answer.b2, shorthand(reply.Options, message.Block2))
					if answer.b1 != "" {
						require.Equal(t, answer.b1, shorthand(reply.Options, message.Block1))
					}
					if answer.size1 != 0 {
						size, err := reply.Options.GetUint32(message.Size1)
						require.NoError(t, err)
						require.EqualValues(t, answer.size1, size)
					}
					if answer.b2 != "" {
						require.True(t, bytes.Equal(cut(down, answer.b2), reply.Payload))
					}
				}
				if v.Valid && lines[0].b1 != "" {
					require.True(t, bytes.Equal(up, got))
				}
			})
		})
	}
}
