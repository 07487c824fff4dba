package docs

import (
	"encoding/json"

	"go.yaml.in/yaml/v4"
)

// object is a mapping in the order that a reader wants it in.
type object []field

type field struct {
	key   string
	value any // an object, a list of them, JSON, or a plain value
}

// node makes YAML of a value. Objects are no yaml.Marshaler, since then each level
// of them would be encoded anew for the level above.
func node(value any) (made *yaml.Node, err error) {
	switch v := value.(type) {
	case json.RawMessage: // is YAML too
		var document yaml.Node
		if err := yaml.Load(v, &document); err != nil {
			return nil, err
		}
		return document.Content[0], nil
	case string: // most are, and Encode would parse each
		made = new(yaml.Node)
		made.SetString(v)
		return made, nil
	case object:
		made = &yaml.Node{Kind: yaml.MappingNode}
		for _, f := range v {
			child, err := node(f.value)
			if err != nil {
				return nil, err
			}
			made.Content = append(made.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: f.key}, child)
		}
		return made, nil
	case []object:
		made = &yaml.Node{Kind: yaml.SequenceNode}
		for _, item := range v {
			child, err := node(item)
			if err != nil {
				return nil, err
			}
			made.Content = append(made.Content, child)
		}
		return made, nil
	}
	made = new(yaml.Node)
	return made, made.Encode(value)
}

// ref points to a component, such as {"schemas", "mom.v1.Task"}.
func ref(kind, name string) object {
	return object{{"$ref", "#/components/" + kind + "/" + name}}
}

// with adds a field unless its value is empty.
func (o object) with(key, value string) object {
	if value == "" {
		return o
	}
	return append(o, field{key, value})
}
