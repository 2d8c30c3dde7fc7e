module courser.test/go-verdicts

go 1.26
