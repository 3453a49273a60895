module embedding-operator/hack/programs/pause

go 1.26.0
