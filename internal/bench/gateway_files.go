package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"net/url"
	"time"
)

// FilesResult is one upload and one download of a large file. The gateway's memory must not grow with the file.
type FilesResult struct {
	Bytes    int64    `json:"bytes"`
	Upload   Transfer `json:"upload"`   // POST /api/v2/assets
	Download Transfer `json:"download"` // GET /view
	Before   uint64   `json:"gateway_memory_before_bytes"`
	After    uint64   `json:"gateway_memory_after_bytes"` // it seldom shrinks, so this is about the most too
}

// Transfer is how long a file took through the gateway, and the CPU of the gateway.
type Transfer struct {
	Seconds        float64 `json:"seconds"`
	BytesPerSecond float64 `json:"bytes_per_second"`
	GatewayCPU     float64 `json:"gateway_cpu_seconds"`
}

// measureFiles uploads a file and downloads it.
func (b *gatewayBench) measureFiles(ctx context.Context) (*FilesResult, error) {
	before, err := b.gateway.ask(ctx, askTraffic)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	hash, err := b.uploadFile(ctx)
	if err != nil {
		return nil, err
	}
	stored := time.Now()
	between, err := b.gateway.ask(ctx, askTraffic)
	if err != nil {
		return nil, err
	}
	if err := b.downloadFile(ctx, hash); err != nil {
		return nil, err
	}
	took := time.Since(stored)
	after, err := b.gateway.ask(ctx, askTraffic)
	if err != nil {
		return nil, err
	}
	transfer := func(took, cpu time.Duration) Transfer {
		return Transfer{took.Seconds(), float64(b.cfg.FileBytes) / took.Seconds(), cpu.Seconds()}
	}
	return &FilesResult{
		Bytes: b.cfg.FileBytes, Upload: transfer(stored.Sub(began), between.CPU-before.CPU), Download: transfer(took, after.CPU-between.CPU),
		Before: before.Memory, After: after.Memory,
	}, nil
}

// noise is a reader of bytes that do not compress, made of one block again and again.
type noise struct{ block [1 << 16]byte }

func newNoise() *noise {
	n := &noise{}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range n.block {
		n.block[i] = byte(random.Uint32())
	}
	return n
}

// Read fills p.
func (n *noise) Read(p []byte) (int, error) {
	for read := 0; read < len(p); {
		read += copy(p[read:], n.block[:])
	}
	return len(p), nil
}

func (b *gatewayBench) uploadFile(ctx context.Context) (hash string, err error) {
	reader, writer := io.Pipe()
	form := multipart.NewWriter(writer)
	go func() {
		writer.CloseWithError(b.writeForm(form))
	}()
	a, err := b.client.request(ctx, http.MethodPost, "/api/v2/assets", reader, "Content-Type", form.FormDataContentType())
	_ = reader.Close() // ends the goroutine when the answer came early
	if err != nil {
		return "", err
	}
	var asset struct{ Hash string }
	if err := json.Unmarshal(a.body, &asset); err != nil {
		return "", fmt.Errorf("read the answer to an upload: %w", err)
	}
	return asset.Hash, nil
}

func (b *gatewayBench) writeForm(form *multipart.Writer) error {
	for _, field := range [][2]string{{"content_type", "application/octet-stream"}, {"file_path", "bench.bin"}} {
		if err := form.WriteField(field[0], field[1]); err != nil {
			return err
		}
	}
	part, err := form.CreateFormFile("file", "bench.bin")
	if err != nil {
		return err
	}
	done := int64(0)
	for source := newNoise(); done < b.cfg.FileBytes; {
		n, err := io.CopyN(part, source, min(8<<20, b.cfg.FileBytes-done))
		if done += n; err != nil {
			return err
		}
		b.cfg.Progress(Progress{Stage: filesStage, Done: int(done >> 20), Total: int(b.cfg.FileBytes >> 20)})
	}
	return form.Close()
}

func (b *gatewayBench) downloadFile(ctx context.Context, hash string) error {
	response, err := b.client.open(ctx, http.MethodGet, "/view?filename="+url.QueryEscape(hash), nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	if err == nil && (response.StatusCode != http.StatusOK || n != b.cfg.FileBytes) {
		err = fmt.Errorf("the answer is %d with %d of %d bytes", response.StatusCode, n, b.cfg.FileBytes)
	}
	if err != nil {
		return fmt.Errorf("download the file: %w", err)
	}
	return nil
}
