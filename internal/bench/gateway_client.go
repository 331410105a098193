package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/gorilla/websocket"
)

// gatewayClient is a program that uses a gateway.
type gatewayClient struct {
	base string // http://host:port
	http *http.Client
}

func newGatewayClient(base string) *gatewayClient {
	return &gatewayClient{base, &http.Client{Transport: &http.Transport{DisableCompression: true}}}
}

// dial opens a websocket and reads the first message.
func (c *gatewayClient) dial(ctx context.Context, client string) (*websocket.Conn, error) {
	conn, response, err := websocket.DefaultDialer.DialContext(ctx, strings.Replace(c.base, "http", "ws", 1)+"/ws?clientId="+client, nil)
	if err != nil {
		return nil, fmt.Errorf("open a websocket: %w", err)
	}
	_ = response.Body.Close()
	if _, _, err = conn.ReadMessage(); err != nil {
		return nil, fmt.Errorf("read the first message of a websocket: %w", err)
	}
	return conn, nil
}

// gatewayAnswer is what a request got.
type gatewayAnswer struct {
	status int
	header http.Header
	body   []byte
}

// request sends a request to the gateway and reads the whole answer, which must not be an error.
func (c *gatewayClient) request(ctx context.Context, method, path string, body io.Reader, header ...string) (*gatewayAnswer, error) {
	response, err := c.open(ctx, method, path, body, header...)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= http.StatusBadRequest {
		err = errors.New(string(read[:min(len(read), 300)]))
	}
	if err != nil {
		return nil, fmt.Errorf("the gateway answered %s %s with %d: %w", method, path, response.StatusCode, err)
	}
	return &gatewayAnswer{response.StatusCode, response.Header, read}, nil
}

func (c *gatewayClient) open(ctx context.Context, method, path string, body io.Reader, header ...string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("make a request: %w", err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return c.http.Do(r)
}
