package lwm2m

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// ServerConfig is the configuration of a [Server]. The zero value serves devices without credentials, on loopback only.
type ServerConfig struct {
	// Credentials are the devices' keys. Default: none, so that DTLS and TLS need certificates.
	Credentials Credentials
	// Certificate is what the server shows on DTLS and TLS. Default: none; then only pre-shared keys are offered.
	Certificate *tls.Certificate
	// ClientCAs are the roots of the devices' certificates. Default: none; then no certificate of a device is accepted.
	ClientCAs *x509.CertPool
	// NoSec allows transports without security on addresses other than loopback. Default: refused.
	NoSec bool

	// Registrations keeps registrations over restarts. Default: they are kept in memory and lost.
	Registrations RegistrationStore
	// Models are the object models. Default: the built-in ones.
	Models *Models
	// Authorize is asked before a Register is accepted, with what would be registered and its proven identity. An error
	// refuses the device: with 4.03, or with the code of the [ResponseError] or category that it is. Default: all are accepted.
	Authorize func(context.Context, Registration) error
	// Logger receives what the server has to say. Keys are never logged. Default: nothing is.
	Logger *slog.Logger

	// MinLifetime and MaxLifetime bound what devices ask for; a lifetime outside is refused with 4.00.
	// Defaults: 1 s and 10 years.
	MinLifetime, MaxLifetime time.Duration
	// AwakeTime is how long a device in queue mode is taken to listen after it was heard.
	// Default: 93 s, MAX_TRANSMIT_WAIT of RFC 7252.
	AwakeTime time.Duration
	// MaxRegistrations bounds the number of endpoints known; further ones are answered 5.03. Default: 4 million.
	MaxRegistrations int
	// MaxMessage bounds a body that is collected in memory, from a device or for it. Default: 64 KiB.
	MaxMessage int
}

// Server is the LwM2M server: it keeps the registrations of devices and sends them requests. Its methods may be called from
// several goroutines.
//
// Requests to one device are sent one at a time in the order of the calls. A request to a device in queue mode that sleeps
// waits until the device is heard or ctx ends; with [NoWait] it fails with [ErrAsleep] instead. An answer with an error
// code is a [*ResponseError]. A request that was not answered is [ErrTimeout], and also [ErrDeliveryUnknown] if carrying it
// out twice would matter. A request to an endpoint that is not registered is [ErrNotRegistered].
type Server struct{}

// NewServer returns a server. It starts nothing: see [Server.ListenAndServe].
func NewServer(config ServerConfig) *Server { return &Server{} }

// ListenAndServe listens on the address of uri and serves devices until ctx ends, then returns nil; other errors are those
// of the configuration and of the network. Schemes are coap and coaps (UDP), coap+tcp and coaps+tcp; the port defaults to
// 5683 or 5684. It may be called several times, for several addresses.
//
//	coap://127.0.0.1:5683   coaps://:5684   coap+tcp://[::1]   coaps+tcp://
func (s *Server) ListenAndServe(ctx context.Context, uri string) error { return ErrNotImplemented }

// ServePacket serves devices on conn without security, whatever its address, until ctx ends, then closes conn and returns
// nil. It is for sockets that the caller made, and for networks in memory.
func (s *Server) ServePacket(ctx context.Context, conn net.PacketConn) error {
	return ErrNotImplemented
}

// Serve serves devices on the connections that l accepts until ctx ends, then closes l and returns nil. Connections that
// are [*tls.Conn] count as TLS, others as TCP without security.
func (s *Server) Serve(ctx context.Context, l net.Listener) error { return ErrNotImplemented }

// Registration returns what is known of an endpoint, also after its registration ended; ok is false for one that was never
// registered.
func (s *Server) Registration(endpoint string) (r Registration, ok bool) {
	return Registration{}, false
}

// Registrations returns the registrations of all endpoints, also ended ones, in no order.
func (s *Server) Registrations() iter.Seq[Registration] { return func(func(Registration) bool) {} }

// LocalAddress returns the server's address that a registered device used.
func (s *Server) LocalAddress(endpoint string) (netip.AddrPort, bool) { return netip.AddrPort{}, false }

// Watch calls fn with each event from now on, until stop is called. Events of one endpoint come one after another in their
// order, those of different endpoints also at once. fn may block and may call the server, but holds back the later events of
// its endpoint; it never holds back the network. After stop has returned no further call begins.
func (s *Server) Watch(fn func(Event)) (stop func()) { return func() {} }

// A RequestOption changes how a request is made.
type RequestOption func(*requestOptions)

type requestOptions struct{}

// NoWait makes a request fail with [ErrAsleep] instead of waiting for a device that sleeps.
func NoWait() RequestOption { return func(*requestOptions) {} }

// WithFormat sets the content format of what is sent by a write, or asked for by a read. Default: what suits the device's
// version and what it announced, other formats when it refuses that.
func WithFormat(f ContentFormat) RequestOption { return func(*requestOptions) {} }

// Read returns the values at and below path: an object, an instance, a resource or a resource instance.
func (s *Server) Read(ctx context.Context, endpoint string, path Path, opts ...RequestOption) ([]Entry, error) {
	return nil, ErrNotImplemented
}

// ReadComposite returns the values at and below several paths at once (LwM2M 1.1). What is absent is left out.
func (s *Server) ReadComposite(ctx context.Context, endpoint string, paths []Path, opts ...RequestOption) ([]Entry, error) {
	return nil, ErrNotImplemented
}

// Discover returns the device's list of what is at and below path with its attributes, in the CoRE link format.
func (s *Server) Discover(ctx context.Context, endpoint string, path Path, opts ...RequestOption) (string, error) {
	return "", ErrNotImplemented
}

// Write replaces what is at path, an instance, a resource or a resource instance, by entries, which lie at or below it.
func (s *Server) Write(ctx context.Context, endpoint string, path Path, entries []Entry, opts ...RequestOption) error {
	return ErrNotImplemented
}

// WriteValue sets the value of the resource or resource instance at path.
func (s *Server) WriteValue(ctx context.Context, endpoint string, path Path, v Value, opts ...RequestOption) error {
	return ErrNotImplemented
}

// WritePartial sets entries below the instance or multiple resource at path and keeps what is not among them.
func (s *Server) WritePartial(ctx context.Context, endpoint string, path Path, entries []Entry, opts ...RequestOption) error {
	return ErrNotImplemented
}

// WriteComposite sets entries anywhere on the device, all or none (LwM2M 1.1).
func (s *Server) WriteComposite(ctx context.Context, endpoint string, entries []Entry, opts ...RequestOption) error {
	return ErrNotImplemented
}

// WriteAttributes sets notification attributes at path, given as a query: "pmin=10&pmax=60"; a name alone unsets.
func (s *Server) WriteAttributes(ctx context.Context, endpoint string, path Path, query string, opts ...RequestOption) error {
	return ErrNotImplemented
}

// Execute runs the resource at path; args is "" or an argument list such as "0='x',5".
func (s *Server) Execute(ctx context.Context, endpoint string, path Path, args string, opts ...RequestOption) error {
	return ErrNotImplemented
}

// Create makes an instance of the object at path with the values of entries. If they name no instance, the device
// chooses; the path returned is that of the new instance, if the device told.
func (s *Server) Create(ctx context.Context, endpoint string, path Path, entries []Entry, opts ...RequestOption) (Path, error) {
	return Path{}, ErrNotImplemented
}

// Delete removes the instance, or since LwM2M 1.2 the resource instance, at path.
func (s *Server) Delete(ctx context.Context, endpoint string, path Path, opts ...RequestOption) error {
	return ErrNotImplemented
}

// WriteStreamOptions are the options of [Server.WriteStream].
type WriteStreamOptions struct {
	// BlockSize is the largest block to send: 16, 32, 64, 128, 256, 512 or 1024 bytes. Default: 1024. The device may lower it.
	BlockSize int
	// Exclusive holds other requests to the device back until the transfer has ended, for clients that take nothing
	// between two blocks. Default: others may pass between.
	Exclusive bool
	// Progress is called with the bytes that the device has acknowledged, of total, after each block. It must not block.
	Progress func(done, total int64)
}

// WriteStream writes size bytes of body to the opaque resource at path, block by block, as they are (content format 42).
// It is not bounded in time but for ctx; each block is. A transfer to one device excludes another to the same device.
func (s *Server) WriteStream(ctx context.Context, endpoint string, path Path, body io.ReaderAt, size int64,
	opts WriteStreamOptions) error {
	return ErrNotImplemented
}

// Observe asks the device to tell changes at and below path, and calls fn with the present values and then with each
// notification, one at a time, in order. fn may block, and then may miss values that were overtaken by newer ones.
// The observation ends with the registration: see [Observation.Done].
func (s *Server) Observe(ctx context.Context, endpoint string, path Path, fn func([]Entry), opts ...RequestOption) (*Observation, error) {
	return nil, ErrNotImplemented
}

// ObserveComposite is Observe for several paths at once (LwM2M 1.1): a change at one is told with the values at all.
func (s *Server) ObserveComposite(ctx context.Context, endpoint string, paths []Path, fn func([]Entry), opts ...RequestOption) (*Observation, error) {
	return nil, ErrNotImplemented
}

// Observation is an observation that a [Server] made.
type Observation struct{}

// Done is closed when the observation has ended: by Cancel, by the device, or with the registration (a new Register ends it
// too).
func (o *Observation) Done() <-chan struct{} { return nil }

// Err returns nil while the observation lasts and after Cancel, ErrNotRegistered if the registration ended, or the device's
// *ResponseError.
func (o *Observation) Err() error { return nil }

// Cancel ends the observation and tells the device, if it can be told before ctx ends. fn is not called again after Cancel
// has returned.
func (o *Observation) Cancel(ctx context.Context) error { return nil }

// Download is a request by GET for something that is not LwM2M, such as a firmware image.
type Download struct {
	// Path is the path as the peer sent it, decoded, with a leading slash. Empty segments are kept: "//x".
	Path string
	// Query holds the parts of the query, "name=value" each.
	Query []string
	// Endpoint is the registered endpoint whose association the request came on; "" if it came on another.
	Endpoint string
	// Identity is what the peer proved by its credentials; "" without.
	Identity  string
	Address   netip.AddrPort
	Transport Transport
}

// Resource is something that a server hands out by GET, in blocks if it is big.
type Resource struct {
	// Body is read at any offset, by several readers at once.
	Body io.ReaderAt
	// Size is the number of bytes in Body.
	Size int64
	// ETag identifies the bytes: 1 to 8 bytes. Default: none, and then a download cannot be resumed safely.
	ETag []byte
	// Format is the content format told. Default: FormatOpaque.
	Format ContentFormat
	// Progress is called after a block was sent, with the offset after it. It must not block. Default: none.
	Progress func(offset int64)
}

// Handle serves r for GET at path, exactly, on all transports. It replaces what was handled there before; nil removes it.
func (s *Server) Handle(path string, r *Resource) {}

// HandleFunc asks fn for what GET at a path that begins with prefix is to be answered with; the longest prefix wins, and
// Handle before all. fn is called for each block, so it should be quick. An error is answered with its code, see [Object];
// (nil, nil) with 4.04. A nil fn removes the prefix.
func (s *Server) HandleFunc(prefix string, fn func(context.Context, Download) (*Resource, error)) {}
