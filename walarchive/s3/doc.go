// Package s3 keeps an archive in a bucket of an S3-compatible store: s3://bucket/prefix?endpoint=HOST[:PORT]&region=R.
//
// An object is stored by one conditional request (If-None-Match: *), so that of two writers one wins; small objects are
// replaced by If-Match. The credentials are those of the AWS tools: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the file
// ~/.aws/credentials, or the role of the machine.
package s3
