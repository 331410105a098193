package dispatcher_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/comfyherd/comfyherd/jetstream"
)

// BenchmarkFile puts a file of 16 MiB through a dispatcher and gets it again, on NATS in this process over sockets.
func BenchmarkFile(b *testing.B) {
	url, body := filesOn(b), noise(16<<20)
	serveFiles(b, url)
	c := clientOf(b, url)
	put := func() jetstream.File {
		file, err := c.PutFile(b.Context(), "acme/in/large", "", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		return file
	}
	b.Run("Put", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			put()
		}
	})
	b.Run("Get", func(b *testing.B) {
		put()
		b.SetBytes(int64(len(body)))
		for b.Loop() {
			from, _, err := c.OpenInput(b.Context(), "acme/in/large", 0)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, from); err != nil {
				b.Fatal(err)
			}
			if err := from.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Range", func(b *testing.B) { // the first byte behind a jump
		for n := 0; b.Loop(); n++ {
			from, _, err := c.OpenInput(b.Context(), "acme/in/large", int64(n*7_654_321%len(body)))
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(from, make([]byte, 1)); err != nil {
				b.Fatal(err)
			}
			if err := from.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
