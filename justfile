# What can be done here. `just` alone lists it. Every recipe is one cargo command: without `just`, run that.

# List the recipes
default:
    @just --list

# Reproduce an experiment of the paper: just reproduce mnist [--data RTS --model st-cnn-aff --seeds 0,1,2 --budget full]
reproduce experiment *args:
    cargo stn reproduce {{experiment}} {{args}}

# Every cell that can be reproduced, with the paper's figure
list:
    cargo stn list

# Table and figures of the finished runs under a folder again: just plots runs/mnist/quick
plots runs="runs/mnist/quick":
    cargo stn report {{runs}}

# Ours against PyTorch's, row by row: just bench-peers [--python PATH --rows "sampler;step: CNN" --quick --threads 1]
bench-peers *args:
    cargo bench -p stn-experiments --bench peers -- {{args}}

# Our operations alone, by criterion: just bench [conv2d]
bench *args:
    cargo bench -p stn-core --bench ops -- {{args}}

# All tests
test:
    cargo test --workspace

# What CI checks before the tests: formatting, lints, documentation
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# Open the documentation
docs:
    cargo doc --workspace --no-deps --open
