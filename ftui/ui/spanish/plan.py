"""What a plan and a rehearsal say, in Spanish."""

PLAN = {
    "The plan: {reason}": "El plan: {reason}",
    "{count} steps over {tokens} tokens: about {words}, {gb} GB of memory ({others}), {disk} GB of disk{more}.": "{count} pasos con {tokens} tokens: unos {words}, {gb} GB de memoria ({others}), {disk} GB de disco{more}.",
    "Each step goes through the model in passes of up to {tokens} tokens; {words}.": "Cada paso recorre el modelo en pasadas de hasta {tokens} tokens; {words}.",
    "{recomputed} of {layers} layers recompute theirs": "{recomputed} de {layers} capas recalculan sus activaciones",
    "no layer recomputes its activations": "ninguna capa recalcula sus activaciones",
    "The plan does not know mixtures of experts, so nothing says beforehand whether this run fits.": "El plan no conoce las mezclas de expertos, así que nada dice de antemano si este entrenamiento cabe.",
    "The plan cannot be made: config.json does not say how large the model is.": "No se puede hacer el plan: config.json no dice el tamaño del modelo.",
    # what it rests on
    "An estimate by arithmetic, nothing was run: {share} of {speed} TFLOP/s ({device}, {cores} cores) while training; loading, answers, checks and merging by rules of thumb. A rehearsal measures it.": "Una estimación aritmética, no se ejecutó nada: el {share} de {speed} TFLOP/s ({device}, {cores} núcleos) al entrenar; carga, respuestas, controles y fusión por regla general. Un ensayo lo mide.",
    "Measured: {steps} steps on this machine, the longest first ({rate} tokens a second), loading, reading and writing. Merging is an estimate.": "Medido: {steps} pasos en esta máquina, los más largos primero ({rate} tokens por segundo), carga, lectura y escritura. La fusión es una estimación.",
    "Measured: memory ran out in the rehearsal. The times are an estimate.": "Medido: la memoria se agotó en el ensayo. Los tiempos son una estimación.",
    "Money: {words}.": "Dinero: {words}.",
    "${cost} an hour (FTUI_PRICE_PER_HOUR)": "{cost} $ por hora (FTUI_PRICE_PER_HOUR)",
    "${cost} an hour ({hardware} on Hugging Face Spaces, as of {date})": "{cost} $ por hora ({hardware} en Hugging Face Spaces, a fecha de {date})",
    # what to change
    "It fits with {words}.": "Cabe con {words}.",
    "Even with {words} it does not fit.": "Ni con {words} cabe.",
    "It does not fit.": "No cabe.",
    "{reason} Choose a smaller base model or a machine with more memory.": "{reason} Elige un modelo base más pequeño o una máquina con más memoria.",
    "a 4-bit base": "una base de 4 bits",
    "rows of at most {most} tokens": "filas de {most} tokens como mucho",
    "It also fits without the 4-bit base, which trains faster and merges exactly.": "También cabe sin la base de 4 bits, que entrena más rápido y se fusiona con exactitud.",
    "The run needs {needed} GB of disk, for checkpoints and the merged model, and the folder of runs has {free} GB free. Make room first: empty the trash, or delete runs.": "El entrenamiento necesita {needed} GB de disco, para los puntos de control y el modelo fusionado, y la carpeta de entrenamientos tiene {free} GB libres. Haz sitio antes: vacía la papelera o borra entrenamientos.",
    # the rehearsal
    "Rehearsing: the model is loaded.": "Ensayo: se carga el modelo.",
    "Rehearsing: the longest rows go first.": "Ensayo: primero las filas más largas.",
    "Rehearsing: a few words of a reply.": "Ensayo: unas palabras de respuesta.",
    "a rehearsal": "un ensayo",
    "Not rehearsed: without the memory for it, the system would end this program. {reason}": "No se ensayó: sin memoria suficiente, el sistema terminaría este programa. {reason}",
    "Run {run} is at work. Rehearse when it is done.": "El entrenamiento {run} está en marcha. Ensaya cuando termine.",
    "Another rehearsal is under way. It takes a minute or two.": "Ya hay otro ensayo en marcha. Tarda un minuto o dos.",
}
