// Check reads rendered Kubernetes objects as strictly as an API server does, and compares two renderings.
//
//	go run . chart.yaml kustomize.yaml
//
// An object with a field that its kind does not have is refused, and so is one of a kind that is not known here. Objects of KEDA are
// compared only. The namespace is left out of the comparison: a chart's is chosen when it is installed. It is a module of its own so
// that comfyherd does not depend on Kubernetes' types.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1)
	}
}

func run(files []string) error {
	if len(files) != 2 {
		return errors.New("give two files with rendered objects")
	}
	var all [2]map[string]map[string]any
	for i, file := range files {
		var err error
		if all[i], err = read(file); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	for name, object := range all[0] {
		if !reflect.DeepEqual(object, all[1][name]) {
			one, _ := yaml.Marshal(object)
			two, _ := yaml.Marshal(all[1][name])
			return fmt.Errorf("%s is rendered as\n%s\nin %s, and as\n%s\nin %s", name, one, files[0], two, files[1])
		}
	}
	if len(all[0]) != len(all[1]) || len(all[0]) == 0 {
		return fmt.Errorf("%s has %d objects, %s has %d", files[0], len(all[0]), files[1], len(all[1]))
	}
	fmt.Printf("%d objects are valid, and the same in both\n", len(all[0]))
	return nil
}

// read reads the objects of a file by kind and name, without their namespaces.
func read(file string) (map[string]map[string]any, error) {
	body, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	objects := map[string]map[string]any{}
	for documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(body))); ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		var object map[string]any
		if err := yaml.UnmarshalStrict(document, &object); err != nil {
			return nil, err
		}
		if object == nil {
			continue
		}
		kind, _ := object["kind"].(string)
		meta, _ := object["metadata"].(map[string]any)
		name := fmt.Sprintf("%s %v", kind, meta["name"])
		if err := strict(kind, document); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		delete(meta, "namespace")
		objects[name] = object
	}
}

func strict(kind string, document []byte) error {
	switch kind {
	case "Deployment":
		return yaml.UnmarshalStrict(document, &appsv1.Deployment{})
	case "StatefulSet":
		return yaml.UnmarshalStrict(document, &appsv1.StatefulSet{})
	case "Service":
		return yaml.UnmarshalStrict(document, &corev1.Service{})
	case "PodDisruptionBudget":
		return yaml.UnmarshalStrict(document, &policyv1.PodDisruptionBudget{})
	case "ScaledObject":
		return nil
	}
	return errors.New("this kind is not known")
}
