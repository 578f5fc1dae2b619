"""From a recipe, or a run folder, to the objects that do the work: tables, tokenizer, encoder, model, stages."""
