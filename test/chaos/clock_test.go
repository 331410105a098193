//go:build unix

package chaos_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// clockVariable says how wrong the wall clock of a process is: "1h" is an hour ahead from its start; "-1h,20s@3s" is an
// hour behind, and after 3 s it is set 20 s forward. Only the binaries of this test know it: they are built with a
// package time whose Now adds this to the machine's clock. Monotonic time goes on as ever, as on a machine whose clock
// is wrong or is set.
const clockVariable = "COMFYHERD_CHAOS_CLOCK"

// wrongClock is what package time gets; timeNow is where it is called.
const (
	timeNow    = "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {"
	wrongNow   = "\tsec, nsec, mono := runtimeNow()\n\tsec += chaosOff\n\tif chaosJump != 0 && mono-startNano > chaosAfter {\n\t\tsec += chaosJump\n\t}\n\tif mono == 0 {"
	timeImport = "import (\n"
	syscalls   = "import (\n\t\"syscall\"\n"
	wrongClock = `
var chaosOff, chaosJump, chaosAfter = chaosClock() // seconds, seconds, nanoseconds

func chaosClock() (off, jump, after int64) {
	text, _ := syscall.Getenv("` + clockVariable + `")
	first, second := text, ""
	for i := range text {
		if text[i] == ',' {
			first, second = text[:i], text[i+1:]
		}
	}
	d, _ := ParseDuration(first)
	off = int64(d / Second)
	for i := range second {
		if second[i] == '@' {
			d, _ := ParseDuration(second[:i])
			at, _ := ParseDuration(second[i+1:])
			jump, after = int64(d/Second), int64(at)
		}
	}
	return off, jump, after
}
`
)

// overlay writes a file for go build -overlay that puts the wrong clock into package time.
func overlay(dir string) (string, error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	original := filepath.Join(strings.TrimSpace(string(out)), "src", "time", "time.go")
	source, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	for _, part := range []string{timeNow, timeImport} {
		if bytes.Count(source, []byte(part)) != 1 {
			return "", fmt.Errorf("%s is not as it was when this test was written: %q is not in it once", original, part)
		}
	}
	source = bytes.Replace(source, []byte(timeNow), []byte(wrongNow), 1)
	source = bytes.Replace(source, []byte(timeImport), []byte(syscalls), 1)
	changed := filepath.Join(dir, "time.go")
	if err := os.WriteFile(changed, append(source, wrongClock...), 0o600); err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return "", err
	}
	name := filepath.Join(dir, "overlay.json")
	return name, os.WriteFile(name, replace, 0o600)
}

// The log of a process with a wrong clock has wrong times; otherwise its clock was not wrong and the storm proves nothing.
func TestTheClocksOfTheStormAreWrong(t *testing.T) {
	t.Parallel()
	for clock, off := range map[string]time.Duration{"": 0, "1h": time.Hour, "-1h": -time.Hour, "1h,20s@0s": time.Hour + 20*time.Second} {
		run := exec.CommandContext(t.Context(), command(t, "agent"), "--comfy-hosts=http://127.0.0.1:1", "--nats-url=nats://127.0.0.1:1",
			"--retry", "--log-json")
		run.Env = append(os.Environ(), clockVariable+"="+clock)
		said, err := run.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		var line struct{ Time time.Time }
		err = json.NewDecoder(said).Decode(&line)
		got := time.Until(line.Time)
		_ = run.Process.Kill() // it would try for ever
		_ = run.Wait()
		if err != nil || (got-off).Abs() > 10*time.Second {
			t.Errorf("clock %q: the log is %v ahead, want %v (%v)", clock, got, off, err)
		}
	}
}
