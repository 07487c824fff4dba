package route

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// shipped is a Buf image of our own schemas, written by `make generate`. We need it for their comments, which
// the linked packages do not have.
//
//go:embed shipped.binpb
var shipped []byte

var shippedFiles = sync.OnceValues(func() (*protoregistry.Files, error) {
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(shipped, &set); err != nil {
		return nil, fmt.Errorf("shipped schemas: %w", err)
	}
	files, err := protodesc.FileOptions{AllowUnresolvable: true}.NewFiles(&set) // the image is built without imports
	if err != nil {
		return nil, fmt.Errorf("shipped schemas: %w", err)
	}
	return files, nil
})

// keepComments drops all source locations without a comment from a file. A Buf image has the location of
// every word, which would take more memory than the schema itself.
func keepComments(file *descriptorpb.FileDescriptorProto) {
	info := file.GetSourceCodeInfo()
	if info == nil {
		return
	}
	var commented []*descriptorpb.SourceCodeInfo_Location
	for _, location := range info.GetLocation() {
		if location.LeadingComments != nil || location.TrailingComments != nil {
			location.LeadingDetachedComments = nil
			commented = append(commented, location)
		}
	}
	info.Location = commented
}

// Comment returns the comment that a descriptor has in its schema, with each paragraph of prose on one line.
// It is empty if there is no comment.
func (s *Schemas) Comment(d protoreflect.Descriptor) string {
	locations := d.ParentFile().SourceLocations()
	if locations.Len() == 0 {
		twin, err := s.now().shipped.FindDescriptorByName(d.FullName())
		if err != nil {
			return ""
		}
		d, locations = twin, twin.ParentFile().SourceLocations()
	}
	at := locations.ByDescriptor(d)
	comment := at.LeadingComments
	if strings.TrimSpace(comment) == "" {
		comment = at.TrailingComments
	}
	return unwrap(comment)
}

// unwrap joins the lines of each paragraph. Lines of lists, headings, tables, quotes and indented examples
// stay apart.
func unwrap(comment string) string {
	var text strings.Builder
	for line := range strings.Lines(strings.TrimSpace(comment)) {
		line = strings.TrimRight(strings.TrimPrefix(line, " "), " \t\n")
		switch {
		case text.Len() == 0:
		case line == "" || strings.ContainsRune(" \t-*#>|", rune(line[0])) || strings.HasSuffix(text.String(), "\n"):
			text.WriteByte('\n')
		default:
			text.WriteByte(' ')
		}
		text.WriteString(line)
	}
	return text.String()
}
