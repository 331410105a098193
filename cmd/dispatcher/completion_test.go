package main_test

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	main "github.com/comfyherd/comfyherd/cmd/dispatcher"
)

func completion(t *testing.T, shell string) string {
	t.Helper()
	var out, say bytes.Buffer
	if code := main.Run(t.Context(), []string{"completion", shell}, nil, &out, &say); code != 0 {
		t.Fatalf("code %d: %s", code, &say)
	}
	return out.String()
}

func TestBashCompletesCommandsFlagsAndValues(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Log("there is no bash here: its script was not run")
		return
	}
	script := completion(t, "bash") + `
offered() { COMP_WORDS=(dispatcher "$@"); COMP_CWORD=$#; _dispatcher; echo "${COMPREPLY[*]}"; }
offered ho
offered hosts dr
offered hosts drain --nats-u
offered run --preset ""
offered completion z
offered dead --sta
`
	cmd := exec.CommandContext(t.Context(), bash, "--norc", "-c", script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	want := "hosts\ndrain\n--nats-url --nats-user\nproduction development high-availability\nzsh\n\n"
	if string(out) != want {
		t.Errorf("offered:\n%s\nwant:\n%s", out, want)
	}
}

func TestZshAndFishHaveScriptsOfTheSamePlaces(t *testing.T) {
	t.Parallel()
	for shell, wants := range map[string][]string{
		"zsh":  {"#compdef dispatcher\n", `    " hosts drain") place="$place $word" ;;`, `    " run --preset") offer="production development high-availability" ;;`},
		"fish": {"complete -c dispatcher", "    case \" hosts drain\"\n      set place", "    case \" run --preset\"\n      set offer \"production development high-availability\"\n"},
	} {
		script := completion(t, shell)
		for _, want := range wants {
			if !strings.Contains(script, want) {
				t.Errorf("%s: no %q in\n%s", shell, want, script)
			}
		}
		path, err := exec.LookPath(shell)
		if err != nil {
			t.Logf("there is no %s here: its script was not parsed", shell)
			continue
		}
		parse := exec.CommandContext(t.Context(), path, "-n")
		parse.Stdin = strings.NewReader(script)
		if out, err := parse.CombinedOutput(); err != nil {
			t.Errorf("%s does not parse its script: %v\n%s", shell, err, out)
		}
	}
}

func TestHelpShowsTheHelpOfACommand(t *testing.T) {
	t.Parallel()
	var asked, flag, say bytes.Buffer
	if code := main.Run(t.Context(), []string{"help", "hosts", "drain"}, nil, &asked, &say); code != 0 {
		t.Fatalf("code %d: %s", code, &say)
	}
	if code := main.Run(t.Context(), []string{"hosts", "drain", "--help"}, nil, &flag, &say); code != 0 || asked.String() != flag.String() {
		t.Errorf("help hosts drain printed\n%s\nand hosts drain --help\n%s", &asked, &flag)
	}
	if code := main.Run(t.Context(), []string{"help", "nonsense"}, nil, &asked, &say); code != 1 || !strings.Contains(say.String(), "nonsense") {
		t.Errorf("code %d of a command that does not exist: %s", code, &say)
	}
}
