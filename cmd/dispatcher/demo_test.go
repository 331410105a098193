package main_test

import (
	"bytes"
	"os"
	"syscall"
	"testing"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
)

// leaver reads a few lines and goes, as head does.
type leaver struct{ lines int }

func (l *leaver) Write(p []byte) (int, error) {
	if l.lines--; l.lines < 0 {
		return 0, syscall.EPIPE
	}
	return len(p), nil
}

func TestADemoThatNobodyReadsOnLeavesNothingBehind(t *testing.T) { // not parallel: the environment belongs to the process
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	t.Setenv("COMFY_HOSTS", "")
	var errs bytes.Buffer
	if code := main.Run(t.Context(), []string{"demo"}, nil, &leaver{lines: 5}, &errs); code != 1 || errs.Len() > 0 {
		t.Errorf("code %d, said %q", code, &errs)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
