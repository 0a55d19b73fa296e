// Package cli is what the example programs share at their edge to the shell: flags that the
// environment can set, a context that ends on SIGINT and SIGTERM, a logger for people, secrets read
// from files, and the last output of a child process.
//
//	fs := cli.NewFlagSet(os.Stderr, "server", "[flags]", "runs the update server")
//	http := fs.String("http", "127.0.0.1:8080", "address of the operators' API")
//	if err := cli.Parse(fs, os.Args[1:], os.LookupEnv); err != nil { ... } // -http, else OTAGO_HTTP, else the default
package cli
