"""Every decoder under inputs that nobody meant to write: guided by the lines they reach, kept, repeatable.

`decoder` says what is fuzzed, `*_decoders` list them, `fuzzer` draws inputs, `judging` holds them to what must hold.
"""
