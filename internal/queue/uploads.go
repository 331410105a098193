package queue

import (
	"context"
	"fmt"
	"strings"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/names"
)

// uploadByPath is the kind of keys of COMFY_ASSETS that say what a tenant has uploaded as ComfyUI's own API does. They expire when
// files do.
const uploadByPath = "upload"

func uploadKey(tenant job.Tenant, path string) string {
	return string(tenant) + "." + uploadByPath + "." + names.FileKey(path)
}

// NoteUpload notes that a tenant has uploaded a file, after it was stored. path is the one below ComfyUI's folder of inputs.
func (q *Queue) NoteUpload(ctx context.Context, tenant job.Tenant, path string) error {
	return putJSON(ctx, q.assets, uploadKey(tenant, path), true)
}

// Uploads lists the paths that NoteUpload has noted.
func (q *Queue) Uploads(ctx context.Context, tenant job.Tenant) ([]string, error) {
	watcher, err := q.assets.WatchFiltered(ctx, []string{uploadKey(tenant, "") + "*"}, natsjs.IgnoreDeletes(), natsjs.MetaOnly())
	if err != nil {
		return nil, fmt.Errorf("list the uploads of tenant %s: %w", tenant, err)
	}
	defer ended(watcher)
	var paths []string
	for {
		select {
		case entry := <-watcher.Updates():
			if entry == nil {
				return paths, wrap(ctx.Err(), "list the uploads of tenant %s", tenant)
			}
			if path, named := names.FileOfKey(strings.TrimPrefix(entry.Key(), uploadKey(tenant, ""))); named {
				paths = append(paths, path)
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("list the uploads of tenant %s: %w", tenant, ctx.Err())
		}
	}
}
