package main

import (
	"context"
	"fmt"
	"io"
	"mime"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/comfyherd/comfyherd/internal/job"
	"github.com/comfyherd/comfyherd/internal/workflow"
	"github.com/comfyherd/comfyherd/jetstream"
)

// checkInputs finds a wrong --input before anything is stored.
func (w *jobFlags) checkInputs(graph *workflow.Graph) error {
	for _, text := range w.Input {
		node, _, path, ok := splitChange(text)
		if !ok || path == "" {
			return fmt.Errorf("--input %s: write it like --input 10.image=cat.png", text)
		}
		if graph.ClassOf(node) == "" {
			return fmt.Errorf("--input %s: the workflow has no node %s; look at the ids in the exported file", text, node)
		}
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			return fmt.Errorf("--input %s: there is no file %s; give the path of a picture", text, path)
		}
	}
	return nil
}

// store puts the files of --input into COMFY_INPUTS, once for all jobs of this command.
func (w *jobFlags) store(ctx context.Context, a *asker, client *jetstream.Client) ([]job.Input, error) {
	folder := string(client.Tenant()) + "/" + uuid.NewString()
	inputs := make([]job.Input, 0, len(w.Input))
	for i, text := range w.Input {
		node, name, path, _ := splitChange(text)
		file := filepath.Base(path)
		object := fmt.Sprintf("%s/%d/%s", folder, i, file)
		if err := storeFile(ctx, a, client, object, path); err != nil {
			return nil, fmt.Errorf("--input %s: %w", text, err)
		}
		inputs = append(inputs, job.Input{Node: node, Input: strings.TrimPrefix(name, "inputs."), Object: object, Filename: file})
	}
	return inputs, nil
}

// storeFile stores a file through a dispatcher; where none runs and the credentials allow it, directly.
func storeFile(ctx context.Context, a *asker, client *jetstream.Client, object, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	kind := mime.TypeByExtension(filepath.Ext(path))
	_, err = client.PutFile(ctx, object, kind, file)
	if err == nil {
		return nil
	}
	q, err := a.instead(ctx, err)
	if err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = q.StoreInput(ctx, object, kind, file)
	return err
}
