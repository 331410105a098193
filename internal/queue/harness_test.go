package queue_test

import (
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

const smallWorkflow = `{
	"1": {"class_type": "EmptyImage", "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 0}},
	"9": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "out"}}
}`

// awaitCalls returns when a service with n calls answers.
func awaitCalls(nc *nats.Conn, n int) {
	var info struct{ Endpoints []any }
	for len(info.Endpoints) < n {
		if msg, err := nc.Request("$SRV.INFO.comfy-dispatcher", nil, time.Minute); err == nil {
			must(0, json.Unmarshal(msg.Data, &info))
		}
	}
}
