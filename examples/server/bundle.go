package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/otago-iot/otago/examples/internal/cli"
	"github.com/otago-iot/otago/firmware/bundle"
	"github.com/otago-iot/otago/internal/disk"
)

const bundleHelp = `server bundle keygen | sign | verify
makes and checks signed packages, for devices without a format of their own. Each verb has a help of its own:

  keygen
    	make the key pair that signs them and is trusted by devices
  sign
    	make a bundle of an image
  verify
    	check a bundle and show its manifest
`

// runBundle makes and checks signed packages.
func runBundle(args []string, env environment) error {
	if len(args) == 0 {
		return cli.Usagef("bundle needs a verb: keygen, sign or verify")
	}
	switch verb, rest := args[0], args[1:]; verb {
	case "keygen":
		return bundleKeygen(rest, env)
	case "sign":
		return bundleSign(rest, env)
	case "verify":
		return bundleVerify(rest, env)
	case "-h", "-help", "--help", "help":
		fmt.Fprint(env.stderr, bundleHelp)
		return flag.ErrHelp
	default:
		return cli.Usagef("bundle %q: there are keygen, sign and verify", verb)
	}
}

func bundleKeygen(args []string, env environment) error {
	fs := cli.NewFlagSet(env.stderr, "server bundle keygen", "[flags]",
		"makes a key pair: the private key signs bundles and stays secret, the public one goes into devices (-trust).")
	private := fs.String("key", "signer.key", "`file` for the private key")
	public := fs.String("pub", "signer.pub", "`file` for the public key")
	if err := cli.Parse(fs, args, env.lookup); err != nil {
		return err
	}
	if err := cli.NoArguments(fs); err != nil {
		return err
	}
	if err := bundle.CreateKeyFiles(*private, *public); err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "%s\tsigns bundles: keep it secret\n%s\tfor devices: -trust %s\n", *private, *public, *public)
	return nil
}

func bundleSign(args []string, env environment) (err error) {
	fs := cli.NewFlagSet(env.stderr, "server bundle sign", "[flags] IMAGE", "makes a signed bundle of an image.")
	keyFile := fs.String("key", "signer.key", "`file` with the private key")
	name := fs.String("name", "firmware", "what the image is for")
	version := fs.String("version", "", "the image's version")
	minVersion := fs.String("min-version", "", "the lowest `version` that must be running; empty if any will do")
	out := fs.String("out", "", "`file` for the bundle (default NAME-VERSION.bundle)")
	if err := cli.Parse(fs, args, env.lookup); err != nil {
		return err
	}
	switch {
	case fs.NArg() != 1:
		return cli.Usagef("bundle sign needs one IMAGE after its flags")
	case *version == "":
		return cli.Usagef("bundle sign needs -version")
	}
	if err := bundle.CheckVersion(*version); err != nil {
		return cli.Usagef("-version %q: %v", *version, err)
	}
	if err := bundle.CheckVersion(*minVersion); *minVersion != "" && err != nil {
		return cli.Usagef("-min-version %q: %v", *minVersion, err)
	}
	if *out == "" {
		if filepath.Base(*name) != *name {
			return cli.Usagef("-name %q is no name of a file: the bundle needs -out", *name)
		}
		*out = *name + "-" + *version + ".bundle"
	}
	key, err := bundle.ReadPrivateKey(*keyFile)
	if err != nil {
		return err
	}
	image, err := os.Open(fs.Arg(0))
	if err != nil {
		return err
	}
	defer image.Close()
	m := bundle.Manifest{Name: *name, Version: *version, MinVersion: *minVersion}
	if err := writeFile(*out, func(w io.Writer) error { return bundle.Sign(w, key, m, image) }); err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "%s\t%s %s, signed\n", *out, *name, *version)
	return nil
}

// writeFile writes a temporary file, and renames it to path when it is complete and durable.
func writeFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := write(f); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return disk.Files{}.Rename(f.Name(), path)
}

func bundleVerify(args []string, env environment) error {
	fs := cli.NewFlagSet(env.stderr, "server bundle verify", "[flags] BUNDLE", "checks a bundle and shows its manifest.")
	trust := fs.String("trust", "signer.pub", "`file` with the public key")
	running := fs.String("running", "", "the `version` of a device that is to take it; empty for any")
	if err := cli.Parse(fs, args, env.lookup); err != nil {
		return err
	}
	if fs.NArg() != 1 {
		return cli.Usagef("bundle verify needs one BUNDLE after its flags")
	}
	if err := bundle.CheckVersion(*running); *running != "" && err != nil {
		return cli.Usagef("-running %q: %v", *running, err)
	}
	key, err := bundle.ReadPublicKey(*trust)
	if err != nil {
		return err
	}
	f, err := os.Open(fs.Arg(0))
	if err != nil {
		return err
	}
	defer f.Close()
	v := bundle.NewVerifier(nil, key, bundle.Policy{Running: *running})
	_, err = io.Copy(v, f)
	if err == nil {
		err = v.Close()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", fs.Arg(0), err)
	}
	m, _ := v.Manifest()
	fmt.Fprintf(env.stdout, "name         %s\nversion      %s\nmin version  %s\nsize         %d\nsha256       %x\nsignature    good\n",
		m.Name, m.Version, m.MinVersion, m.Size, m.SHA256)
	return nil
}
