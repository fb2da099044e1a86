"""The rules of the house: who may import whom, what each room holds, docs that run."""
