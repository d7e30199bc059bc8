"""Pictures of drawings, after the idea of DiffSketching (BMVC 2022), on a frozen
text-to-image model."""
