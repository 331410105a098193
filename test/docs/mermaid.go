package docs

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Mermaid says what is wrong with a diagram in the part of Mermaid that the pages use: sequenceDiagram with declared
// participants, flowchart with nodes that have a text once, and stateDiagram-v2.
func Mermaid(diagram string) error {
	var lines []string
	for line := range strings.Lines(diagram) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "%%") {
			lines = append(lines, line)
		}
	}
	if len(lines) < 2 {
		return errors.New("the diagram is empty")
	}
	read := map[string]func([]string) error{"sequenceDiagram": sequence, "flowchart": flowchart, "stateDiagram-v2": states}[strings.Fields(lines[0])[0]]
	if read == nil {
		return fmt.Errorf("%q is no type of diagram that is read here", lines[0])
	}
	if strings.HasPrefix(lines[0], "flowchart") && !regexp.MustCompile(`^flowchart (LR|RL|TB|TD|BT)$`).MatchString(lines[0]) {
		return fmt.Errorf("%q has no direction", lines[0])
	}
	return read(lines[1:])
}

var (
	participantForm = regexp.MustCompile(`^(?:participant|actor) (\w+)(?: as [^;#]+)?$`)
	messageForm     = regexp.MustCompile(`^(\w+)\s*(?:->>|-->>|->|-->|-x|--x|-\)|--\))\s*[+-]?(\w+): [^;#]+$`)
	noteForm        = regexp.MustCompile(`^Note (?:over|left of|right of) (\w+)(?:,\s*(\w+))?: [^;#]+$`)
	openForm        = regexp.MustCompile(`^(?:alt|opt|loop|par|critical|break|rect)\b.*$`)
	branchForm      = regexp.MustCompile(`^(?:else|and|option)\b.*$`)
)

// sequence reads what stands below sequenceDiagram.
func sequence(lines []string) error {
	known, depth, messages := map[string]bool{}, 0, 0
	for _, line := range lines {
		switch {
		case line == "autonumber":
		case line == "end":
			depth--
		case participantForm.MatchString(line):
			known[participantForm.FindStringSubmatch(line)[1]] = true
		case openForm.MatchString(line):
			depth++
		case branchForm.MatchString(line):
			if depth == 0 {
				return fmt.Errorf("%q stands in no alt or par", line)
			}
		default:
			who := messageForm.FindStringSubmatch(line)
			if who == nil {
				if who = noteForm.FindStringSubmatch(line); who == nil {
					return fmt.Errorf("%q is no message, note or block", line)
				}
			}
			messages++
			for _, name := range who[1:] {
				if name != "" && !known[name] {
					return fmt.Errorf("%q names %s, which is no participant", line, name)
				}
			}
		}
		if depth < 0 {
			return errors.New("there is an end without a begin")
		}
	}
	if depth != 0 || messages == 0 {
		return fmt.Errorf("%d blocks are not ended, and there are %d messages", depth, messages)
	}
	return nil
}

var (
	nodeForm = regexp.MustCompile(`^(\w+)(\["[^"]+"\]|\("[^"]+"\)|\{"[^"]+"\}|\[\("[^"]+"\)\])?$`)
	edgeForm = regexp.MustCompile(`\s*(?:-->|---|-\.->|==>)(?:\|"?[^|"]+"?\|)?\s*`)
)

// flowchart reads what stands below flowchart; a node that an edge names must have a text somewhere.
func flowchart(lines []string) error {
	named, used, depth := map[string]bool{}, map[string]bool{}, 0
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "subgraph "):
			depth++
			continue
		case line == "end":
			depth--
			continue
		case regexp.MustCompile(`^direction (LR|RL|TB|TD|BT)$`).MatchString(line):
			continue
		}
		for _, part := range edgeForm.Split(line, -1) {
			for _, node := range strings.Split(part, " & ") {
				form := nodeForm.FindStringSubmatch(strings.TrimSpace(node))
				if form == nil {
					return fmt.Errorf("%q has %q, which is no node", line, node)
				}
				used[form[1]] = true
				named[form[1]] = named[form[1]] || form[2] != ""
			}
		}
	}
	for node := range used {
		if !named[node] {
			return fmt.Errorf("node %s has no text", node)
		}
	}
	if depth != 0 || len(used) == 0 {
		return fmt.Errorf("%d subgraphs are not ended, and there are %d nodes", depth, len(used))
	}
	return nil
}

var transitionForm = regexp.MustCompile(`^(\[\*\]|\w+) --> (\[\*\]|\w+)(: [^;#]+)?$`)

// states reads what stands below stateDiagram-v2: a state is declared by a transition to it.
func states(lines []string) error {
	reached, left := map[string]bool{}, map[string]bool{}
	for _, line := range lines {
		if regexp.MustCompile(`^(direction (LR|TB)|\w+: [^;#]+|state "[^"]+" as \w+)$`).MatchString(line) {
			continue
		}
		form := transitionForm.FindStringSubmatch(line)
		if form == nil {
			return fmt.Errorf("%q is no transition", line)
		}
		left[form[1]], reached[form[2]] = true, true
	}
	for state := range left {
		if state != "[*]" && !reached[state] {
			return fmt.Errorf("state %s is never reached", state)
		}
	}
	if !left["[*]"] {
		return errors.New("no state is the first")
	}
	return nil
}
