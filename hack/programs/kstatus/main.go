// kstatus says what the library of that name makes of Kubernetes objects: Helm 4, Flux and other tools wait by it.
//
// It reads JSON from its standard input, one object or List after the other, and writes a line of JSON for each object.
// The tests call it.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

type verdict struct {
	Kind    string        `json:"kind"`
	Name    string        `json:"name"`
	Status  status.Status `json:"status"`
	Message string        `json:"message"`
}

func main() {
	if err := judge(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "kstatus: %v\n", err)
		os.Exit(1)
	}
}

func judge(in io.Reader, out io.Writer) error {
	documents, lines := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var document json.RawMessage
		if err := documents.Decode(&document); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("its input is no JSON: %w", err)
		}
		objects, err := objectsIn(document)
		if err != nil {
			return err
		}
		for _, object := range objects {
			result, err := status.Compute(object)
			if err != nil {
				return fmt.Errorf("%s/%s: %w", object.GetKind(), object.GetName(), err)
			}
			said := verdict{object.GetKind(), object.GetName(), result.Status, result.Message}
			if err := lines.Encode(said); err != nil {
				return err
			}
		}
	}
}

// objectsIn returns the items of a List, or the one object that the document is.
func objectsIn(document []byte) ([]*unstructured.Unstructured, error) {
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(document); err != nil {
		return nil, err
	}
	if !object.IsList() {
		return []*unstructured.Unstructured{object}, nil
	}
	var items []*unstructured.Unstructured
	err := object.EachListItem(func(item runtime.Object) error {
		items = append(items, item.(*unstructured.Unstructured))
		return nil
	})
	return items, err
}
